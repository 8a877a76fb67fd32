"""What all servers share: processes that are started, watched, kept on loopback, and ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

LOOPBACK = "127.0.0.1"
PATIENCE = 90
"""Seconds that a server may take to answer, and a command to end."""

Connection = dict[str, str]


class ServerError(Exception):
    """A server cannot be installed, or does not start."""


class Server(ABC):
    """One server with its data and its records in a folder.

    Whoever looks at the folder finds the server again: the number of each of its processes is in
    a file ``*.pid``, what it printed in ``log``, and how to reach it in ``connection.json``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    prefix: ClassVar[str]
    """Of the environment variables that tell tests how to reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    # For each kind of server

    @classmethod
    @abstractmethod
    def lacking(cls) -> list[str]:
        """Name what is not installed."""

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Install what is lacking."""

    @abstractmethod
    def _launch(self, port: int) -> None:
        """Start the processes."""

    @abstractmethod
    def _prepare(self, port: int) -> Connection:
        """Make a bucket and tell how to reach it."""

    # The same for all

    @property
    def connection(self) -> Connection:
        """How to reach it: ``endpoint``, the name of a bucket, and keys to sign requests with."""
        found: Connection = json.loads((self.folder / "connection.json").read_text())
        return found

    @property
    def variables(self) -> dict[str, str]:
        """The connection as environment variables."""
        return {f"{self.prefix}{name.upper()}": text for name, text in self.connection.items()}

    def start(self, port: int | None = None) -> Connection:
        """Start everything and make a bucket; find again what is running already.

        Raises
        ------
        ServerError
            Something is not installed, does not start, or listens on more than loopback; whatever
            did start is stopped.
        """
        if self.pids():
            self.check()
            return self.connection
        if lacking := self.lacking():
            raise ServerError(f"{self.title} is not installed: no {', '.join(lacking)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        try:
            self._launch(port)
            self._wait_for(lambda: answers(port), "does not answer")
            connection = self._prepare(port)
            (self.folder / "connection.json").write_text(json.dumps(connection))
            self.check()
        except BaseException:
            self.stop()
            raise
        return connection

    def check(self) -> None:
        """Refuse a server that does not answer, or that others can reach.

        Raises
        ------
        ServerError
            It is such a one.
        """
        try:
            url = self.connection["endpoint"]
        except FileNotFoundError:
            raise ServerError(f"{self.title} is half started: stop it") from None
        if not answers(int(re.findall(r":(\d+)", url)[0])):
            raise ServerError(f"{self.title} does not answer at {url}")
        addresses = listening(set(self.pids()))
        if addresses is None:
            return  # no program here tells; every server was told its address
        exposed = [one for one in addresses if not one.startswith("127.")]
        if exposed or not addresses:
            found = ", ".join(exposed) or "nothing"
            raise ServerError(f"{self.title} listens on {found} rather than on loopback alone")

    def stop(self) -> None:
        """End the processes, the last one first; those that have ended already do not matter."""
        for file in sorted(self.folder.glob("*.pid"), key=lambda path: -path.stat().st_mtime_ns):
            for pid in self.pids(file.stem):
                self._end(pid)
            file.unlink(missing_ok=True)
        (self.folder / "connection.json").unlink(missing_ok=True)

    def pids(self, name: str = "*") -> list[int]:
        """Return the numbers of the processes that run."""
        texts = (path.read_text().strip() for path in self.folder.glob(f"{name}.pid"))
        return [pid for text in texts if text.isdigit() and self._is_running(pid := int(text))]

    def _spawn(self, *command: str, **variables: str) -> None:
        """Start a process in a group of its own."""
        with (self.folder / "log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                cwd=self.folder,
                start_new_session=True,
            )
        self._children[child.pid] = child
        (self.folder / f"{self.name}.pid").write_text(str(child.pid))

    def _wait_for(self, condition: Callable[[], bool], complaint: str) -> None:
        def settled() -> bool:
            if not self.pids():
                raise ServerError(f"{self.title} has ended: {self._last_words()}")
            return condition()

        wait_for(settled, f"{self.title} {complaint}: {self._last_words()}")

    def _last_words(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-500:] if log.is_file() else "it left no log"

    def _is_running(self, pid: int) -> bool:
        child = self._children.get(pid)
        return is_running(pid) if child is None else child.poll() is None

    def _end(self, pid: int) -> None:
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                if os.getpgid(pid) == pid:
                    os.killpg(pid, number)
                else:
                    os.kill(pid, number)
                wait_for(lambda: not self._is_running(pid), f"{pid} does not end", seconds)
            except ProcessLookupError:
                return
            except ServerError:
                continue
            return


def apt_install(packages: tuple[str, ...]) -> None:
    """Install packages of Debian or Ubuntu."""
    if shutil.which("apt-get") is None:
        raise ServerError("there is no apt-get here")
    if os.geteuid() != 0:
        raise ServerError(f"only root can apt-get install {' '.join(packages)}")
    options = ("-q", "-o", "DPkg::Lock::Timeout=300")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ("apt-get", *options, "update"),
        ("apt-get", *options, "install", "-y", "--no-install-recommends", *packages),
    ):
        run(*command, seconds=900, environment=environment)


def run(*command: str, seconds: float = PATIENCE, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    # Into a file: a daemon keeps what it was started with, and a pipe would not end before it does.
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                env=environment,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{' '.join(command)} takes more than {seconds} s") from error
        except OSError as error:
            raise ServerError(f"cannot run {command[0]}: {error}") from error
        output.seek(0)
        printed = output.read()
    if code:
        raise ServerError(f"{' '.join(command)} failed: {printed.strip()[-500:]}")
    return printed


def wait_for(condition: Callable[[], bool], complaint: str, seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(complaint)
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, other than one that has ended and waits for its end."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def listening(pids: set[int]) -> list[str] | None:
    """Return the addresses that processes listen on; None where no program tells."""
    if shutil.which("ss"):
        lines = run("ss", "-Hltnp").splitlines()
        own = [line for line in lines if pids & set(map(int, re.findall(r"pid=(\d+)", line)))]
        return [line.split()[3] for line in own]
    if shutil.which("lsof"):
        which = ",".join(map(str, pids))
        lines = run("lsof", "-nP", "-a", "-iTCP", "-sTCP:LISTEN", "-Fn", "-p", which).splitlines()
        return [line.removeprefix("n") for line in lines if line.startswith("n")]
    return None


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether something speaks HTTP there."""
    try:
        urllib.request.urlopen(f"http://{LOOPBACK}:{port}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


def send(request: urllib.request.Request, purpose: str) -> None:
    """Send one request that has to succeed."""
    try:
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError as error:
        raise ServerError(f"cannot {purpose}: {error} {error.read()[:300]!r}") from error
    except OSError as error:
        raise ServerError(f"cannot {purpose}: {error}") from error
