"""Downloads from file:// addresses: checksums, nothing half-done left behind, and the words when offline."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import downloads, known_datasets
from experiments.datasets import load_splits
from experiments.downloads import RemoteFile, fetch
from experiments.known_datasets import Located, known_names, locate, md17_file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no data folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BOLTZFIT_CACHE", str(folder))
    monkeypatch.delenv("BOLTZFIT_DATA", raising=False)
    return folder


def served(folder: Path, content: bytes, name: str = "served.bin") -> str:
    """An address of a file with this content."""
    path = folder / name
    path.write_bytes(content)
    return path.as_uri()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def npz(rows: int = 30, first: float = 0.0) -> bytes:
    """An rMD17 file of a hydrogen molecule; row r has energy first - r and a bond of 0.7 + r/1000 Å."""
    stretch = 0.7 + 1e-3 * np.arange(rows)
    positions = np.zeros((rows, 2, 3))
    positions[:, 1, 0] = stretch
    forces = np.zeros((rows, 2, 3))
    forces[:, 1, 0] = 20.0
    stream = io.BytesIO()
    np.savez(
        stream, nuclear_charges=[1, 1], coords=positions, energies=first - np.arange(rows), forces=forces,
        old_indices=10 * np.arange(rows),
    )  # fmt: skip
    return stream.getvalue()


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_good_checksum(tmp_path, cache):
    remote = RemoteFile("set/a.bin", (served(tmp_path, b"data"),), sha256(b"data"))
    path = fetch(remote)
    assert path == cache / "set" / "a.bin"
    assert path.read_bytes() == b"data"
    assert files_under(cache) == ["set/a.bin"]
    # From the cache now: the address may be gone.
    assert fetch(remote._replace(urls=("file:///nowhere",))) == path


def test_bad_checksum_leaves_no_file(tmp_path, cache):
    url = served(tmp_path, b"dat?")
    with pytest.raises(OSError, match=rf"sha256 is {sha256(b'dat?')}, expected {sha256(b'data')}") as caught:
        fetch(RemoteFile("a.bin", (url,), sha256(b"data")))
    assert "\n" not in str(caught.value)
    assert files_under(cache) == []
    assert not list(cache.iterdir())


def test_the_next_address_is_tried(tmp_path, cache):
    urls = ("file:///nowhere/a.bin", served(tmp_path, b"dat?", "bad"), served(tmp_path, b"data", "good"))
    assert fetch(RemoteFile("a.bin", urls, sha256(b"data"))).read_bytes() == b"data"


def test_offline_says_what_to_do(cache, monkeypatch):
    def offline(request, timeout):
        raise OSError("<urlopen error\n[Errno -2] Name or service not known>")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", offline)
    with pytest.raises(OSError, match=r"Name or service not known") as caught:
        locate("md17_benzene")
    line = str(caught.value)
    assert "\n" not in line
    assert "fetch https://www.quantum-machine.org/gdml/data/npz/md17_benzene2017.npz by hand" in line
    assert line.endswith(f"save it as {cache / 'md17' / 'md17_benzene.npz'}")
    with pytest.raises(
        OSError, match=r"fetch https://ndownloader\.figshare\.com/files/23950376 by hand"
    ) as caught:
        locate("rmd17_uracil")
    assert str(caught.value).endswith(f"save it as {cache / 'rmd17.tar.bz2'}")
    with pytest.raises(OSError, match=r"repo/datasets/md22_AT-AT-CG-CG\.npz by hand") as caught:
        locate("md22_AT-AT-CG-CG")
    assert str(caught.value).endswith(f"save it as {cache / 'md22' / 'md22_AT-AT-CG-CG.npz'}")
    assert files_under(cache) == []


def test_truncated_download_is_noticed(cache, monkeypatch):
    class Response(io.BytesIO):
        def __init__(self) -> None:
            super().__init__(b"data")
            self.headers = {"Content-Length": "9"}

    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda request, timeout: Response())
    with pytest.raises(OSError, match="4 bytes came of 9"):
        fetch(RemoteFile("a.bin", ("https://example.org/a.bin",), None))
    assert files_under(cache) == []


def test_damaged_cache_is_noticed(tmp_path, cache):
    remote = RemoteFile("a.bin", (served(tmp_path, b"data"),), sha256(b"data"))
    fetch(remote).write_bytes(b"dat?")
    with pytest.raises(OSError, match=r"a\.bin: sha256 is .* delete it to download it again"):
        fetch(remote)


def test_first_checksum_is_kept_where_none_is_published(tmp_path, cache):
    remote = RemoteFile("a.npz", (served(tmp_path, npz()),), None)
    path = fetch(remote)
    assert files_under(cache) == ["a.npz", "a.npz.sha256"]
    subprocess.run(["sha256sum", "--check", "a.npz.sha256"], cwd=cache, check=True, capture_output=True)
    assert fetch(remote) == path
    path.write_bytes(npz(4))
    with pytest.raises(OSError, match=r"a\.npz: sha256 is"):
        fetch(remote)
    # Nor does another file come in its place.
    path.unlink()
    with pytest.raises(OSError, match=f"expected {sha256(npz())}"):
        fetch(remote._replace(urls=(served(tmp_path, npz(4), "other"),)))


def test_file_put_by_hand_gets_its_checksum_kept(cache):
    path = cache / "a.npz"
    cache.mkdir()
    path.write_bytes(npz())
    assert fetch(RemoteFile("a.npz", (), None)) == path
    assert (cache / "a.npz.sha256").read_text().split() == [sha256(npz()), "a.npz"]


def test_error_page_is_no_npz(tmp_path, cache):
    with pytest.raises(OSError, match="not an npz file"):
        fetch(RemoteFile("a.npz", (served(tmp_path, b"<html>sorry</html>"),), None))
    assert files_under(cache) == []


def test_cache_that_can_not_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOLTZFIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cache folder .*file can not be made .*set BOLTZFIT_CACHE"):
        fetch(RemoteFile("a.bin", (), None))


def archive(molecule: str, content: bytes, train: range, test: range) -> bytes:
    """rMD17's archive with one molecule, one split, and a member that must not be unpacked."""
    members = {
        "../outside": b"",
        f"rmd17/npz_data/rmd17_{molecule}.npz": content,
        "rmd17/splits/index_train_02.csv": "\n".join(map(str, train)).encode(),
        "rmd17/splits/index_test_02.csv": "\n".join(map(str, test)).encode(),
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:bz2") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def config(**changes: object) -> SimpleNamespace:
    fields = {
        "name": "",
        "path": "",
        "test_path": "",
        "train": 6,
        "validation": 2,
        "test": 3,
        "split": "file",
        "units": "",
        "label_names": "",
        "labels": "",
        "ignore_cell": False,
        "group": "",
        "temperature": 0.0,
    }
    return SimpleNamespace(**(fields | changes))


def test_rmd17_from_the_archive(tmp_path, cache, monkeypatch):
    content = archive("toluene", npz(30), range(29, 19, -1), range(5, 10))
    remote = RemoteFile("rmd17.tar.bz2", (served(tmp_path, content),), sha256(content))
    monkeypatch.setattr(known_datasets, "RMD17_ARCHIVE", remote)
    splits = load_splits(config(name="rmd17_toluene_02"), 0)
    # Rows of the csv in their order; `indices` are rMD17's old_indices, ten a row here.
    np.testing.assert_array_equal(splits.train.indices, 10 * np.arange(29, 23, -1))
    np.testing.assert_array_equal(splits.validation.indices, [210, 200])
    np.testing.assert_array_equal(splits.test.indices, [50, 60, 70])
    np.testing.assert_allclose(splits.test.energies, [-5 / 23.060547830619026 * k for k in (1, 1.2, 1.4)])
    assert files_under(cache) == [
        "rmd17.tar.bz2",
        "rmd17/npz_data/rmd17_toluene.npz",
        "rmd17/splits/index_test_02.csv",
        "rmd17/splits/index_train_02.csv",
    ]
    assert not (tmp_path / "outside").exists()
    # Unpacked once: the archive is no longer needed, also for a split of all frames.
    (cache / "rmd17.tar.bz2").unlink()
    monkeypatch.setattr(known_datasets, "fetch", None)
    whole = load_splits(config(name="rmd17_toluene_02", split="random", test=0), 0)
    assert sorted(np.concatenate([part.indices for part in whole])) == list(range(0, 300, 10))


def test_rmd17_archive_without_the_molecule(tmp_path, cache, monkeypatch):
    content = archive("toluene", npz(30), range(10), range(10, 20))
    remote = RemoteFile("rmd17.tar.bz2", (served(tmp_path, content),), sha256(content))
    monkeypatch.setattr(known_datasets, "RMD17_ARCHIVE", remote)
    with pytest.raises(OSError, match=r"rmd17\.tar\.bz2: has no member for .*rmd17_uracil\.npz"):
        locate("rmd17_uracil_02")


def test_bad_rows_of_a_split_file(tmp_path, cache, monkeypatch):
    content = archive("toluene", npz(30), range(10), range(25, 31))
    remote = RemoteFile("rmd17.tar.bz2", (served(tmp_path, content),), sha256(content))
    monkeypatch.setattr(known_datasets, "RMD17_ARCHIVE", remote)
    with pytest.raises(ValueError, match=r"index_test_02\.csv: 'rows' lists row 30, expected 0 to 29"):
        load_splits(config(name="rmd17_toluene_02"), 0)


def test_data_folder_comes_first(tmp_path, cache, monkeypatch):
    data = tmp_path / "data"
    for folder in (data / "rmd17", data / "md17"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("BOLTZFIT_DATA", str(data))
    train, test = (data / "rmd17" / f"rmd17_uracil_{part}_01.npz" for part in ("train", "test"))
    train.write_bytes(npz())
    test.write_bytes(npz())
    assert locate("rmd17_uracil") == locate("rmd17_uracil_01") == Located(train, test)
    md17 = data / "md17" / "md17_uracil.npz"
    md17.write_bytes(npz())
    assert locate("md17_uracil") == Located(md17)
    # The data folder is only read.
    assert files_under(data) == [
        "md17/md17_uracil.npz", "rmd17/rmd17_uracil_test_01.npz", "rmd17/rmd17_uracil_train_01.npz",
    ]  # fmt: skip
    assert not cache.exists()


def test_md17_download_is_checked_and_cached(tmp_path, cache, monkeypatch):
    remote = md17_file("toluene")
    assert remote.sha256 is None
    local = remote._replace(urls=(served(tmp_path, npz()),))
    monkeypatch.setattr(known_datasets, "md17_file", lambda molecule: local)
    assert locate("md17_toluene") == Located(cache / "md17" / "md17_toluene.npz")
    assert files_under(cache) == ["md17/md17_toluene.npz", "md17/md17_toluene.npz.sha256"]


def test_md22_is_downloaded_and_read(tmp_path, cache, monkeypatch):
    # Its own keys: MD17's, with units and the theory by name.
    stretch = 0.7 + 1e-3 * np.arange(20)
    positions = stretch[:, None, None] * np.array([[0.0, 0, 0], [1.0, 0, 0]])
    stream = io.BytesIO()
    np.savez(
        stream, type=b"d", name=b"dimer", theory=b"PBE+MBD", z=np.uint8([1, 1]), R=positions,
        E=-np.arange(20.0)[:, None], F=20.0 * np.ones((20, 2, 1)) * np.float64([1, 0, 0]),
        e_unit=b"kcal/mol", r_unit=b"Ang", md5=b"0" * 32,
    )  # fmt: skip
    known = known_datasets.md22_file("Ac-Ala3-NHMe")
    assert known.path == "md22/md22_Ac-Ala3-NHMe.npz"
    assert all(url.endswith("/md22_Ac-Ala3-NHMe.npz") for url in known.urls)
    local = known._replace(urls=(served(tmp_path, stream.getvalue()),))
    monkeypatch.setattr(known_datasets, "md22_file", lambda molecule: local)
    splits = load_splits(config(name="md22_Ac-Ala3-NHMe", split="", train=8, validation=4), 0)
    assert files_under(cache) == [f"{known.path}", f"{known.path}.sha256"]
    assert splits.train.numbers.tolist() == [1, 1]
    frames = splits.train.indices
    np.testing.assert_allclose(splits.train.energies, -frames / 23.060547830619026, rtol=1e-6)
    np.testing.assert_allclose(splits.train.positions[:, 1, 0], stretch[frames], rtol=1e-6)


def test_names():
    names = known_names()
    assert len(names) == len(set(names)) == 1 + 10 + 8 + 7
    for name in ("rmd17_ethanol_06", "rmd17_ethanol_1", "md17_paracetamol", "md22_ethanol", "zzz"):
        with pytest.raises(
            ValueError, match=rf"^unknown dataset '{name}'; .*known: ethanol_gfn2, rmd17_aspirin"
        ):
            locate(name)
    with pytest.raises(ValueError, match=r"'md17_asprin'; nearest: 'md17_aspirin'; known"):
        locate("md17_asprin")
