"""Repositories to test on, and what to test them with, for every module."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings

# Deterministic by default; ``ICECHUNK_HYPOTHESIS_PROFILE=deep`` looks further, at random.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("deep", settings.get_profile("default"), derandomize=False)
settings.load_profile(os.environ.get("ICECHUNK_HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def effort():
    """Factor on the number of examples of the tests that could go on forever."""
    return 20 if os.environ.get("ICECHUNK_HYPOTHESIS_PROFILE") == "deep" else 1


@pytest.fixture(params=["memory", "local"])
def storage(request, tmp_path):
    import icechunk

    if request.param == "memory":
        return icechunk.in_memory_storage()
    return icechunk.local_filesystem_storage(str(tmp_path / "repo"))


@pytest.fixture
def repo(storage):
    import icechunk

    return icechunk.Repository.create(storage)


@pytest.fixture(scope="session")
def array_document():
    """Function making a zarr.json of a uint8 array."""

    def make(shape=(8,), chunks=(2,), **attributes):
        return json.dumps(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(shape),
                "data_type": "uint8",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": [{"name": "bytes"}],
                "attributes": attributes,
            }
        ).encode()

    return make


@pytest.fixture(scope="session")
def group_document():
    """Function making a zarr.json of a group."""

    def make(**attributes):
        return json.dumps(
            {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        ).encode()

    return make


@dataclass(frozen=True)
class S3Server:
    """A server of the S3 protocol on loopback."""

    endpoint: str
    bucket: str
    key: str
    secret: str
    checks_signatures: bool

    def storage(self, prefix=None, **changes):
        from icechunk.storage import s3_storage

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
    """Run an emulator, started when a test asks for it and stopped at the end.

    Another server is used instead when ``ICECHUNK_TEST_S3_ENDPOINT`` names one (with
    ``ICECHUNK_TEST_S3_KEY``, ``ICECHUNK_TEST_S3_SECRET`` and an existing bucket
    ``ICECHUNK_TEST_S3_BUCKET``).
    """
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
