"""Servers are on loopback alone, are found again, and are gone in the end, however that comes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from object_stores import Gcs, ServerError
from object_stores.process import answers, is_running, listening

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "servers.py"


@pytest.fixture
def server(tmp_path):
    server = Gcs(tmp_path / "server")
    yield server
    server.stop()


def test_a_server_is_started_once_and_stopped_once(server):
    connection = server.start()
    pids = server.pids()
    assert Gcs(server.folder).start() == connection
    assert server.pids() == pids
    assert {address.rpartition(":")[0] for address in listening(set(pids)) or ["127.0.0.1:"]} == {
        "127.0.0.1"
    }
    Gcs(server.folder).stop()
    assert not any(map(is_running, pids))
    server.stop()
    assert not list(server.folder.glob("*.pid"))


class Exposed(Gcs):
    """Listens on every address of the machine."""

    def _launch(self, port):
        program = f"""
from http.server import *
class Handler(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    do_GET = do_PUT
HTTPServer(("", {port}), Handler).serve_forever()
"""
        self._spawn(sys.executable, "-c", program)


def test_a_server_that_others_can_reach_is_stopped(tmp_path):
    if listening({os.getpid()}) is None:
        pytest.skip("neither ss nor lsof is here to tell")
    server = Exposed(tmp_path / "server")
    with pytest.raises(ServerError, match=r"(0\.0\.0\.0|\*).*rather than on loopback alone"):
        server.start()
    assert server.pids() == []
    assert not (server.folder / "connection.json").exists()


class Broken(Gcs):
    """Ends at once."""

    def _launch(self, port):
        self._spawn(sys.executable, "-c", "raise SystemExit('no, thanks')")


def test_a_server_that_ends_says_why(tmp_path):
    begun = time.monotonic()
    with pytest.raises(ServerError, match="no, thanks"):
        Broken(tmp_path / "server").start()
    assert time.monotonic() - begun < 60


def test_a_server_that_has_died_is_started_anew(server):
    first = server.start()
    (pid,) = server.pids()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(ServerError, match="does not answer"):
        server.check()
    assert answers(int(server.start()["endpoint"].rpartition(":")[2]))
    assert server.pids() != [pid]
    assert first["bucket"] == server.connection["bucket"]


def run(*command, **options):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "run", "gcs", "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


TELL = """
import os, sys, time
print(os.environ["ICECHUNK_TEST_GCS_ENDPOINT"], flush=True)
"""


def is_gone(endpoint):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2]))) != 0


def test_servers_run_as_long_as_a_command_that_fails(tmp_path):
    process = run(sys.executable, "-c", TELL + "sys.exit(3)", env={**os.environ})
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert is_gone(printed.strip())


def test_servers_do_not_outlive_a_run_that_is_ended():
    process = run(sys.executable, "-c", TELL + "time.sleep(30)")
    endpoint = process.stdout.readline().strip()
    assert not is_gone(endpoint)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    process.stdout.close()
    assert is_gone(endpoint)


@pytest.mark.parametrize("ci", ["true", ""])
def test_only_ci_insists(tmp_path, ci):
    """Without npm in reach Azurite cannot be installed."""
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    for entry in SCRIPT.parent.glob("*.py"):
        (checkout / "tools" / entry.name).write_bytes(entry.read_bytes())
    (checkout / "tools" / "object_stores").symlink_to(SCRIPT.parent / "object_stores")
    done = subprocess.run(
        [
            *(sys.executable, str(checkout / "tools" / "servers.py"), "run", "--if-possible"),
            *("azurite", "gcs", "--", sys.executable, "-c", TELL),
        ],
        env={**os.environ, "PATH": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Azurite" in done.stderr
    assert done.returncode == (1 if ci else 0), done.stderr
    assert ("DOING WITHOUT" in done.stderr) == (not ci)
    assert bool(done.stdout) == (not ci)


def test_the_connection_is_told_in_variables(server):
    server.start()
    stored = json.loads((server.folder / "connection.json").read_text())
    assert server.variables == {
        "ICECHUNK_TEST_GCS_ENDPOINT": stored["endpoint"],
        "ICECHUNK_TEST_GCS_BUCKET": "testbucket",
        "ICECHUNK_TEST_GCS_TOKEN": stored["token"],
    }
