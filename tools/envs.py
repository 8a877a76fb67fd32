"""Make the virtual environments that the Makefile runs things in; standard library only.

    python3 tools/envs.py default     # prints the interpreter of .env/default, made if needed

An environment is made once and again only when its interpreter or one of the files it is made
from has changed. An environment that this machine cannot have prints nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWER = (3, 12)  # from here on the newest zarr and the newest reference can be installed

Version = tuple[int, int]


@dataclass(frozen=True)
class Environment:
    """One folder below .env and what is installed there."""

    requirements: str
    newest_python: bool = False
    """Built on the newest Python of the machine rather than on the one running this."""
    needs_other_python: bool = False
    """Skipped when the newest Python is the one running this."""
    with_project: bool = True


ENVIRONMENTS = {
    "default": Environment("test.txt"),
    "newest": Environment("test.txt", newest_python=True, needs_other_python=True),
    "demo": Environment("demo.txt"),
    "oracle": Environment("oracle.txt", newest_python=True, with_project=False),
    "oracle-1": Environment("oracle-1.txt", with_project=False),
    "servers": Environment("servers.txt", with_project=False),
}


@functools.cache
def version_of(python: str) -> Version | None:
    """Run an interpreter to learn its version: one that exists may still not run, as shims do."""
    probe = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def candidates() -> list[str]:
    """Interpreters that may be on this machine: on PATH by name, and in pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in pyenv.glob("versions/3.[1-9][0-9]*/bin/python3")]
    for folder in os.get_exec_path():
        if Path(folder).is_dir():
            names = (entry for entry in os.listdir(folder) if re.fullmatch(r"python3\.\d+", entry))
            found += [os.path.join(folder, name) for name in names]
    return found


def default_python() -> str:
    """Return the interpreter running this, or the oldest on the machine that is new enough."""
    if sys.version_info >= OLDEST:
        return sys.executable
    usable = sorted((v, python) for python in candidates() if (v := version_of(python)))
    for version, python in usable:
        if version >= OLDEST:
            return python
    raise SystemExit(f"Python {OLDEST[0]}.{OLDEST[1]} or later is needed, and none was found")


def newest_python() -> str:
    """Return the newest interpreter on the machine, the default one if none is newer."""
    best, best_version = default_python(), version_of(default_python()) or OLDEST
    for python in candidates():
        version = version_of(python)
        if version is not None and version >= NEWER and version > best_version:
            best, best_version = python, version
    return best


def fingerprint(environment: Environment, version: Version | None) -> str:
    """Return a text that changes when the environment must be made anew."""
    files = [ROOT / "constraints.txt", ROOT / "requirements" / environment.requirements]
    if environment.with_project:
        files.append(ROOT / "pyproject.toml")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{version} {ROOT} {digest}"


def ensure(name: str) -> str | None:
    """Make an environment unless it is there already; return its interpreter."""
    environment = ENVIRONMENTS[name]
    base = newest_python() if environment.newest_python else default_python()
    version = version_of(base)
    if environment.needs_other_python and version == version_of(default_python()):
        return None
    folder = ROOT / ".env" / name
    python = str(folder / "bin" / "python")
    stamp = folder / "made-from"
    wanted = fingerprint(environment, version)
    if stamp.is_file() and stamp.read_text() == wanted and version_of(python) == version:
        return python
    log(f"making .env/{name} with {base}")
    shutil.rmtree(folder, ignore_errors=True)
    run(base, "-m", "venv", str(folder))
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["-c", str(ROOT / "constraints.txt")]
    install += ["-r", str(ROOT / "requirements" / environment.requirements)]
    if environment.with_project:
        install += ["-e", f"{ROOT}[all]"]
    run(*install)
    stamp.write_text(wanted)  # last: an interrupted installation leaves none and starts over
    return python


def run(*command: str) -> None:
    """Run a command with its output on stderr, as stdout is for the answer."""
    code = subprocess.run(command, stdout=sys.stderr.fileno()).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} failed with code {code}")


def log(message: str) -> None:
    """Tell the user what takes so long."""
    print(f"--- {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ENVIRONMENTS:
        raise SystemExit(f"usage: envs.py {{{'|'.join(ENVIRONMENTS)}}}")
    print(ensure(sys.argv[1]) or "")
