"""The S3 server that is measured on: one that the environment names, or Ceph's, started here."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from object_stores import Ceph, ServerError
from object_stores.s3 import BUCKET, REGION

VARIABLES = "ICECHUNK_BENCH_S3_"
"""Prefix of the variables that name another server."""

__all__ = ["ServerError", "named_server", "s3_server"]


def named_server() -> dict[str, str] | None:
    """Return the server that the environment names, as arguments of ``icechunk.s3_storage``."""
    endpoint = os.environ.get(f"{VARIABLES}ENDPOINT")
    if not endpoint:
        return None
    # Keys are never left to be found: a client that looks for them asks the network.
    return _arguments(
        {
            "endpoint": endpoint,
            "bucket": os.environ.get(f"{VARIABLES}BUCKET", BUCKET),
            "key": os.environ[f"{VARIABLES}KEY"],
            "secret": os.environ[f"{VARIABLES}SECRET"],
        },
        os.environ.get(f"{VARIABLES}REGION", REGION),
    )


def s3_server(folder: Path, stack: ExitStack) -> dict[str, str]:
    """Return the S3 server that the environment names, or start one for as long as needed.

    Raises
    ------
    ServerError
        There is none, and none can be started.
    """
    if named := named_server():
        return named
    gateway = Ceph(folder)
    stack.callback(gateway.stop)
    return _arguments(gateway.start(), REGION)


def _arguments(connection: dict[str, str], region: str) -> dict[str, str]:
    return {
        "bucket": connection["bucket"],
        "region": region,
        "endpoint_url": connection["endpoint"],
        "access_key_id": connection["key"],
        "secret_access_key": connection["secret"],
    }
