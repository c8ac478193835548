"""Bad input ends in one line that names the culprit, exit status 2, no traceback, and no file touched."""

import json
import subprocess
import sys

import pytest

from tests.experiments.malformed_inputs import CASES, ROOT


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("malformed")
    words = [sys.executable, "-m", "tests.experiments.malformed_inputs", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_there_are_sixty_or_more():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_one_line_and_status_2(outcomes, case):
    outcome = json.loads((outcomes / case.name / "outcome.json").read_text())
    assert "Traceback" not in outcome["stderr"]
    assert outcome["status"] == 2, outcome["stderr"]
    (line,) = (line for line in outcome["stderr"].splitlines() if line.startswith("error: "))
    assert case.words in line
    assert outcome["untouched"]
