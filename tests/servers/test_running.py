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
from object_stores.command import end
from object_stores.process import answers, is_running, listening, wait_for

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


FAMILY = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
"""
AT_THE_END = """
import atexit
atexit.register(lambda: print("cleaned up", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_command_with_all_its_processes_and_then_the_servers(number):
    program = TELL + AT_THE_END + FAMILY + "time.sleep(60)"
    process = run(sys.executable, "-c", program, stderr=subprocess.PIPE)
    endpoint = process.stdout.readline().strip()
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    assert not is_gone(endpoint)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"ended by {number.name}\n" in said
    assert printed == "cleaned up\n"
    assert not any(map(is_running, pids))
    assert is_gone(endpoint)


def test_a_command_that_does_not_listen_is_killed():
    deaf = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]\n"
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, time\n" + deaf + FAMILY + "time.sleep(60)"],
        stdout=subprocess.PIPE,
        process_group=0,
    )
    pids = [int(word) for word in process.stdout.readline().split()]
    begun = time.monotonic()
    end(process, gentle_seconds=0.1, firm_seconds=0.1)
    process.stdout.close()
    assert time.monotonic() - begun > 0.19
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not any(map(is_running, pids)), "a process of the group is left", 10)


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
