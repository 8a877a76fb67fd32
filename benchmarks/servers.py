"""A real S3 server on this machine: Ceph's RADOS gateway, on loopback; standard library only.

    python benchmarks/servers.py install             # from the archive of Debian or Ubuntu, as root
    python benchmarks/servers.py start DIR           # in some 15 seconds; prints how to use it
    python benchmarks/servers.py stop DIR

`run.py` starts one by itself where the programs are installed, and stops it in the end. Emulators
answer too slowly to be measured, and not every one of them carries conditional writes out
atomically; this server does. It keeps its data in memory and below DIR, for as long as it runs.

A cluster of one: a monitor that knows who takes part, a store that keeps objects in memory, and the
gateway that speaks S3. The gateway sends small answers at once (``tcp_nodelay``); by default each
of them would wait for some 40 ms until the client has acknowledged the one before.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common", "iproute2")
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "monmaptool", "ceph", "radosgw-admin", "ss")
LOOPBACK = "127.0.0.1"
KEY, SECRET, BUCKET, REGION = "benchmark", "not-a-secret-on-loopback", "benchmark", "us-east-1"
VARIABLES = "ICECHUNK_BENCH_S3_"
"""Prefix of the variables that name another server."""
PATIENCE = 90
"""Seconds that a daemon may take to answer."""

CONFIGURATION = """\
[global]
fsid = {cluster}
mon_host = [v2:{loopback}:{mon_v2},v1:{loopback}:{mon_v1}]
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
ms_mon_client_mode = crc
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
pid_file = {folder}/$name.pid
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
rgw_frontends = beast endpoint={loopback}:{port} tcp_nodelay=1
rgw_run_sync_thread = false
rgw_enable_lc_threads = false
rgw_enable_usage_log = false
"""


class ServerError(Exception):
    """A server is not installed, or does not start."""


def missing() -> list[str]:
    """Name the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def install() -> None:
    """Install the programs with apt-get."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ("apt-get", "update"),
        ("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES),
    ):
        subprocess.run(command, check=True, env=environment)


class Gateway:
    """One running server with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def connection(self) -> dict[str, str]:
        """Arguments of ``icechunk.s3_storage`` that reach it."""
        found: dict[str, str] = json.loads((self.folder / "connection.json").read_text())
        return found

    def start(self, port: int | None = None) -> dict[str, str]:
        """Start everything, make a user and a bucket, and return `connection`.

        Raises
        ------
        ServerError
            Something is not installed, does not start, or listens on more than loopback; whatever
            did start is stopped.
        """
        if lacking := missing():
            raise ServerError(f"not installed: {', '.join(lacking)} (servers.py install)")
        if self._pids():
            raise ServerError(f"a server runs in {self.folder} already: stop it first")
        for name in ("mon", "osd", "rgw", "run", "log"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(parents=True)
        port = port or free_port()
        try:
            self._start_daemons(port)
            connection = {
                "bucket": BUCKET,
                "region": REGION,
                "endpoint_url": f"http://{LOOPBACK}:{port}",
                "access_key_id": KEY,
                "secret_access_key": SECRET,
            }
            wait_for(lambda: answers(port), "the gateway does not answer")
            make_bucket(port)
            self.require_loopback()
        except BaseException:
            self.stop()
            raise
        (self.folder / "connection.json").write_text(json.dumps(connection))
        return connection

    def stop(self) -> None:
        """Stop what was started here, the gateway first."""
        for name in ("client.rgw", "osd.0", "mon.a"):
            for pid in self._pids(name):
                os.kill(pid, signal.SIGTERM)
                try:
                    wait_for(lambda pid=pid: not is_running(pid), f"{name} does not stop", 20)
                except ServerError:
                    os.kill(pid, signal.SIGKILL)
            (self.folder / f"{name}.pid").unlink(missing_ok=True)
        (self.folder / "connection.json").unlink(missing_ok=True)

    def require_loopback(self) -> None:
        """Refuse a server that others can reach."""
        mine = set(self._pids())
        listing = subprocess.run(
            ["ss", "-Hltnp"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        own = [line for line in listing if mine & set(map(int, re.findall(r"pid=(\d+)", line)))]
        exposed = [line.split()[3] for line in own if not line.split()[3].startswith("127.")]
        if exposed or not own:
            raise ServerError(f"not on loopback alone: {', '.join(exposed) or 'cannot tell'}")

    def _pids(self, name: str = "*") -> list[int]:
        texts = (path.read_text().strip() for path in self.folder.glob(f"{name}.pid"))
        return [pid for text in texts if text.isdigit() and is_running(pid := int(text))]

    def _start_daemons(self, port: int) -> None:
        mon_v2, mon_v1 = free_port(), free_port()
        cluster = str(uuid.uuid4())
        configuration = self.folder / "ceph.conf"
        configuration.write_text(
            CONFIGURATION.format(
                cluster=cluster,
                folder=self.folder,
                loopback=LOOPBACK,
                mon_v1=mon_v1,
                mon_v2=mon_v2,
                port=port,
            )
        )
        (self.folder / "keyring").touch()
        addresses = f"[v2:{LOOPBACK}:{mon_v2},v1:{LOOPBACK}:{mon_v1}]"
        monmap = str(self.folder / "monmap")
        # The tool reads no configuration but the one of the system, which may not exist.
        run(
            "monmaptool",
            "--create",
            "--clobber",
            "--fsid",
            cluster,
            "--addv",
            "a",
            addresses,
            monmap,
        )

        def ceph(program: str, *arguments: str) -> str:
            return run(program, "-c", str(configuration), *arguments)

        ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        ceph("ceph-mon", "-i", "a")
        store = str(uuid.uuid4())
        ceph("ceph", "osd", "new", store)
        ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        ceph("ceph-osd", "-i", "0")
        wait_for(lambda: "1 up" in ceph("ceph", "osd", "stat"), "the store does not come up")
        names = ("--uid=benchmark", "--display-name=benchmark")
        keys = (f"--access-key={KEY}", f"--secret-key={SECRET}")
        ceph("radosgw-admin", "user", "create", *names, *keys)
        ceph("radosgw", "-n", "client.rgw")


def named_server() -> dict[str, str] | None:
    """Return the server that the environment names, as arguments of ``icechunk.s3_storage``."""
    endpoint = os.environ.get(f"{VARIABLES}ENDPOINT")
    if not endpoint:
        return None
    return {
        "bucket": os.environ.get(f"{VARIABLES}BUCKET", BUCKET),
        "region": os.environ.get(f"{VARIABLES}REGION", REGION),
        "endpoint_url": endpoint,
        # Never left to be found: a client that looks for credentials asks the network for them.
        "access_key_id": os.environ[f"{VARIABLES}KEY"],
        "secret_access_key": os.environ[f"{VARIABLES}SECRET"],
    }


def run(*command: str) -> str:
    """Run a command to its end and return what it printed."""
    # Into a file: a daemon keeps what it was started with, and a pipe would not end before it does.
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{' '.join(command)} takes more than {PATIENCE} s") from error
        output.seek(0)
        printed = output.read()
    if code:
        raise ServerError(f"{' '.join(command)} failed: {printed.strip()[-500:]}")
    return printed


def wait_for(condition: object, complaint: str, seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(complaint)
        time.sleep(0.2)


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, other than one that has ended and waits for its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether something speaks HTTP there."""
    try:
        urllib.request.urlopen(f"http://{LOOPBACK}:{port}/", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


def make_bucket(port: int) -> None:
    """Make the bucket: one request, signed by version 4 of Amazon's scheme."""
    now = datetime.now(UTC)
    time_text, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    host, nothing = f"{LOOPBACK}:{port}", hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": nothing, "x-amz-date": time_text}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"PUT\n/{BUCKET}\n\n{lines}\n{names}\n{nothing}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{time_text}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    request = urllib.request.Request(f"http://{host}/{BUCKET}", method="PUT", headers=headers)
    try:
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError as error:
        raise ServerError(f"cannot make the bucket: {error} {error.read()[:300]!r}") from error


def main() -> int:
    """Carry out one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the programs with apt-get")
    start = commands.add_parser("start", help="start a server, print the variables that tests read")
    start.add_argument("folder", type=Path)
    start.add_argument("--port", type=int, help="where it listens, by default anywhere")
    commands.add_parser("stop", help="stop it").add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        if options.command == "install":
            install()
        elif options.command == "stop":
            Gateway(options.folder).stop()
        else:
            connection = Gateway(options.folder).start(options.port)
            for purpose in ("TEST", "BENCH"):
                for name, field in (
                    ("ENDPOINT", "endpoint_url"),
                    ("BUCKET", "bucket"),
                    ("KEY", "access_key_id"),
                    ("SECRET", "secret_access_key"),
                ):
                    print(f"export ICECHUNK_{purpose}_S3_{name}={connection[field]}")
    except (ServerError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
