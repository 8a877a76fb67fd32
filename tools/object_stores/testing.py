"""What fixtures of pytest hand out: servers that tests reach, started on demand."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from object_stores import SERVERS

CERTIFICATES = Path(__file__).with_name("certificates")


def trust_nobody() -> None:
    """Have clients trust one certificate, of which the key is gone, in place of the system's.

    Servers here speak plain HTTP, but every client reads all certificates that it could trust when
    it is made, which takes longer than most of what a test does with it; without any it refuses to
    be made.
    """
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATES / "nobody.pem")
    os.environ["SSL_CERT_DIR"] = str(CERTIFICATES)  # where none has the name that is looked for


@dataclass(frozen=True)
class S3Server:
    """A server of the S3 protocol on loopback."""

    endpoint: str
    bucket: str
    key: str
    secret: str
    checks_signatures: bool

    @property
    def address(self) -> str:
        """Server, key and bucket in one text."""
        return f"s3://{self.key}:{self.secret}@{urlsplit(self.endpoint).netloc}/{self.bucket}"

    def storage(self, prefix: str | None = None, **changes: Any) -> Any:
        """Make a storage, of an empty prefix by default; ``changes`` are to its arguments."""
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


@dataclass(frozen=True)
class AzureServer:
    """A server of the protocol of Azure's blob storage on loopback."""

    endpoint: str
    container: str
    account: str
    secret: str

    def storage(self, prefix: str | None = None, **changes: Any) -> Any:
        """Make a storage, of an empty prefix by default; ``changes`` are to its arguments."""
        from icechunk.storage import azure_storage

        arguments = {
            "account": self.account,
            "container": self.container,
            "prefix": f"tests/{uuid.uuid4().hex}" if prefix is None else prefix,
            "access_key": self.secret,
            "config": {"endpoint": self.endpoint, "allow_http": "true"},
        }
        return azure_storage(**(arguments | changes))

    @property
    def address(self) -> str:
        """Server, account, key and container in one text."""
        user = f"{self.account}:{quote(self.secret, safe='')}"
        return f"az://{user}@{urlsplit(self.endpoint).netloc}/{self.container}"


@dataclass(frozen=True)
class GcsServer:
    """A server of the XML API of Google Cloud Storage on loopback."""

    endpoint: str
    bucket: str
    token: str

    def storage(self, prefix: str | None = None, **changes: Any) -> Any:
        """Make a storage, of an empty prefix by default; ``changes`` are to its arguments."""
        from icechunk.storage import gcs_storage

        arguments = {
            "bucket": self.bucket,
            "prefix": f"tests/{uuid.uuid4().hex}" if prefix is None else prefix,
            "bearer_token": self.token,
            "config": {"base_url": self.endpoint, "allow_http": "true"},
        }
        return gcs_storage(**(arguments | changes))

    @property
    def address(self) -> str:
        """Server, token and bucket in one text."""
        return f"gs://:{quote(self.token, safe='')}@{urlsplit(self.endpoint).netloc}/{self.bucket}"


@contextmanager
def reached(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], bool]]:
    """Yield how to reach a server, and whether the environment names it; else start one."""
    kind = SERVERS[name]
    named = {
        variable.removeprefix(kind.prefix).lower(): text
        for variable, text in os.environ.items()
        if variable.startswith(kind.prefix)
    }
    if "endpoint" in named:
        yield named, True
        return
    if lacking := kind.lacking():
        complaint = f"NOT TESTED: {kind.title} is not installed (tools/servers.py install {name})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{complaint}: no {lacking[0]}")
        pytest.skip(complaint)
    server = kind(tmp_path_factory.mktemp(name))
    try:
        yield server.start(), False
    finally:
        server.stop()
