"""A real S3 protocol server on loopback, for the tests of object stores.

By default an emulator, started when a test asks for it and stopped at the end. Another server is
used instead when ``ICECHUNK_TEST_S3_ENDPOINT`` names one (with ``ICECHUNK_TEST_S3_KEY``,
``ICECHUNK_TEST_S3_SECRET`` and an existing bucket ``ICECHUNK_TEST_S3_BUCKET``).
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass

import pytest

from icechunk.storage import s3_storage


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    bucket: str
    key: str
    secret: str
    checks_signatures: bool

    def storage(self, prefix=None, **changes):
        arguments = {
            "bucket": self.bucket,
            "prefix": prefix or f"tests/{uuid.uuid4().hex}",
            "region": "us-east-1",
            "endpoint_url": self.endpoint,
            "allow_http": True,
            "force_path_style": True,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
        }
        return s3_storage(**(arguments | changes))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    if endpoint := os.environ.get("ICECHUNK_TEST_S3_ENDPOINT"):
        key = os.environ["ICECHUNK_TEST_S3_KEY"]
        secret = os.environ["ICECHUNK_TEST_S3_SECRET"]
        bucket = os.environ.get("ICECHUNK_TEST_S3_BUCKET", "testbucket")
        yield S3Server(endpoint, bucket, key, secret, checks_signatures=True)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait_for(port, server, log)
            request = urllib.request.Request(f"{endpoint}/testbucket", method="PUT", data=b"")
            urllib.request.urlopen(request, timeout=30).close()
            yield S3Server(endpoint, "testbucket", "a-key", "a-secret", checks_signatures=False)
        finally:
            server.kill()
            server.wait()


def _wait_for(port, server, log):
    for _ in range(300):
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"moto did not start: {log.read_text()}")
