"""Make the virtual environments that the Makefile runs things in; standard library only.

    python3 tools/envs.py default           # prints the interpreter of .env/default, made if needed
    python3 tools/envs.py default oracle    # makes several at the same time, prints a line for each

An environment is made once and again only when its interpreter or one of the files it is made
from has changed. An environment that this machine cannot have prints an empty line. Processes that
want the same environment at once wait for the one that makes it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWER = (3, 12)  # from here on the newest zarr and the newest reference can be installed

Version = tuple[int, int]


class EnvironmentFailure(Exception):  # noqa: N818  not a mistake of the program
    """An environment could not be made."""


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
    raise EnvironmentFailure(
        f"Python {OLDEST[0]}.{OLDEST[1]} or later is needed, and none was found"
    )


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


def ensure_all(names: list[str]) -> list[str | None]:
    """Make several environments, as many at a time as there are processors."""
    newest_python()  # asked of all interpreters once, not by each thread
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        attempts = [pool.submit(ensure, name) for name in names]
    failures = [str(error) for attempt in attempts if (error := attempt.exception())]
    if failures:
        raise EnvironmentFailure("\n".join(failures))
    return [attempt.result() for attempt in attempts]


def ensure(name: str) -> str | None:
    """Make an environment unless it is there already; return its interpreter.

    Raises
    ------
    EnvironmentFailure
        It could not be made; says which command failed, and how.
    """
    with alone(name) as lock:
        return ensure_alone(name, lock)


@contextmanager
def alone(name: str) -> Iterator[int]:
    """Keep other processes and threads from making the same environment meanwhile.

    What is yielded is the descriptor of the lock. It is held until all have closed theirs who have
    inherited it: should this process be killed, the next one waits for what it has started.
    """
    (ROOT / ".env").mkdir(exist_ok=True)
    with open(ROOT / ".env" / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def ensure_alone(name: str, lock: int) -> str | None:
    """Do what `ensure` does, while nobody else does."""
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
    run(base, "-m", "venv", str(folder), lock=lock)
    # Python compiles what is imported; to compile everything takes longer than all the rest.
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    install += ["--disable-pip-version-check"]
    install += ["-c", str(ROOT / "constraints.txt")]
    install += ["-r", str(ROOT / "requirements" / environment.requirements)]
    if environment.with_project:
        install += ["-e", f"{ROOT}[all]"]
    run(*install, lock=lock)
    stamp.write_text(wanted)  # last: an interrupted installation leaves none and starts over
    return python


def run(*command: str, lock: int) -> None:
    """Run a command with its output on stderr, as stdout is for the answer."""
    code = subprocess.run(command, stdout=sys.stderr.fileno(), pass_fds=[lock]).returncode
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
        raise EnvironmentFailure(f"{' '.join(command)} {how}")


def log(message: str) -> None:
    """Tell the user what takes so long."""
    print(f"--- {message}", file=sys.stderr, flush=True)


def main(names: list[str]) -> int:
    """Carry out the command line; whatever goes wrong is said."""
    if not names or not set(names) <= ENVIRONMENTS.keys():
        print(f"usage: envs.py {{{'|'.join(ENVIRONMENTS)}}} ...", file=sys.stderr)
        return 2
    try:
        for python in ensure_all(names):
            print(python or "")
    except EnvironmentFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
