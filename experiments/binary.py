"""What the binaries share: flags, one-line errors with exit status 2, provenance."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from experiments.configurations import check_sections, complete, difference

PACKAGES = ("boltzfit", "jax", "jaxlib", "jax-md", "flax", "optax", "numpy", "orbax-checkpoint")


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "ethanol.py"

PROVENANCE = "provenance.json"
"""File of a workdir: code, versions and device of the process that last trained in it."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

LOG = logging.getLogger("boltzfit")
"""Progress of the binaries, on stderr; the libraries' own chatter stays out of it."""


class InputError(Exception):
    """Bad input: one line that names the file, key or flag and says what was expected."""


@contextmanager
def reading_input() -> Iterator[None]:
    """Turns the errors of reading and checking input into `InputError`."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise InputError(" ".join((str(error) or type(error).__name__).split())) from error


def run(main: Callable[..., None], operand: str = "") -> None:
    """Parses the flags and calls `main`; bad input, or output that can not be written, ends in one line
    and exit status 2.

    Args:
      main: the binary.
      operand: what the one argument that is no flag is called, which `main` then takes; empty: none.
    """

    def parse(arguments: list[str]) -> list[str]:
        return _parse_flags(arguments, operand, main.__module__)

    app.run(lambda rest: _guarded(partial(main, *rest[1:])), flags_parser=parse)


def _guarded(main: Callable[[], None]) -> None:
    # jax-md asks for float64 sums whatever the precision; without x64 JAX says so at each.
    warnings.filterwarnings("ignore", message="Explicitly requested dtype float64")
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    # TF32 on new GPUs would ruin forces.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        main()
    except InputError as error:
        _fail(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise  # of neither a file nor a disk
        _fail(error)


def _parse_flags(arguments: list[str], operand: str, module: str) -> list[str]:
    configured = "config" in flags.FLAGS and not _foreign("config", module)
    if configured and not any(a.split("=")[0] in ("--config", "-config") for a in arguments):
        # Not the flag's own default, which would be read, and fail, at import.
        arguments = [arguments[0], f"--config={DEFAULT_CONFIG}", *arguments[1:]]
    try:
        rest = flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        name, _, hint = str(error).replace("\\n", "\n").replace("\\", "").partition("\n")
        name, hint = name.strip("\"'"), hint.strip("\"'")  # quoted twice by KeyError
        _fail(ValueError(f"--config has no field '{name}'. {hint} They stand in configs/base.py"))
    except flags.UnrecognizedFlagError as error:
        setting = error.flagname.removeprefix("config.")
        if "." not in setting or "set" not in flags.FLAGS or _foreign("set", module):
            _fail(error)
        _fail(ValueError(f"no flag --{error.flagname}; a run's settings change by --set {setting}=VALUE"))
    except (flags.Error, ValueError, TypeError, OSError) as error:
        _fail(error)
    except Exception as error:
        if not configured:
            raise
        _fail(ValueError(f"--config: {_place(error)}"))  # of a configuration of the user's own
    for name in flags.FLAGS:
        if flags.FLAGS[name].present and (owner := _foreign(name, module)):
            _fail(ValueError(f"--{name} is a flag of {owner}, and none of this binary"))
    if operand and len(rest) < 2:
        _fail(ValueError(f"expected an argument: {operand}"))
    if len(rest) > 1 + bool(operand):
        _fail(ValueError(f"unexpected argument '{rest[-1]}'; flags start with --"))
    return rest


def _place(error: Exception) -> str:
    """An error in a user's code, and the line that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        "" if isinstance(error, SyntaxError) else f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    )
    return f"{type(error).__name__}: {error}{where}"


def _foreign(name: str, module: str) -> str:
    """The binary whose flag this is, where it is another one, imported for its functions; else empty."""
    owner = flags.FLAGS.find_module_defining_flag(name.split(".")[0]) or ""
    return owner if owner.startswith("experiments.") and owner != module else ""


def _fail(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def provenance() -> dict[str, str]:
    """Versions, commit and device of this process, for reports and metrics."""
    record = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            record[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            record[package] = "not installed"
    devices = jax.devices()
    record["device"] = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    record["matmul precision"] = str(jax.config.jax_default_matmul_precision)
    record["commit"] = _commit()
    return record


def log_provenance(seed: int) -> None:
    """One line of what decides the numbers: code, device, precision, seed."""
    found = provenance()
    LOG.info(
        "boltzfit %s, commit %s; jax %s on %s, matmul precision %s; seed %d",
        *(found[key] for key in ("boltzfit", "commit", "jax", "device", "matmul precision")),
        seed,
    )


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def claim_workdir(workdir: str, config: ConfigDict) -> Path:
    """Makes the workdir, or checks that the run in it has this configuration.

    Raises:
      InputError: no workdir given, or one that holds a run of another configuration.
    """
    if not workdir:
        raise InputError("--workdir is not set; expected a folder for this run")
    path = Path(workdir)
    record = path / "config.json"
    text = config.to_json(indent=2, sort_keys=True)
    with reading_input():
        if record.exists():
            found = difference(_read_record(record), complete(json.loads(text)))
            if found:
                raise InputError(f"{path} holds a run of another configuration: {found}")
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(record, text)
    return path


def read_config(workdir: str | Path) -> ConfigDict:
    """The configuration of the run in a workdir, complete.

    Raises:
      InputError: there is no run, or its record is damaged.
    """
    record = Path(workdir) / "config.json"
    if not record.exists():
        raise InputError(f"{record}: no such file; expected the workdir of a training run")
    with reading_input():
        return ConfigDict(_read_record(record, sections=True))


def _read_record(record: Path, sections: bool = False) -> dict:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{record}: expected the JSON of a configuration ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{record}: expected the JSON of a configuration, got {type(found).__name__}")
    if sections:
        check_sections(found, str(record))
    try:
        return complete(found)
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{record}: expected the JSON of a configuration ({error})") from error


def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
