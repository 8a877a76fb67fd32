"""Where repositories of the tests are: a text names the place, and means the same to both sides.

A place is the path of a directory, or the address of a prefix in a bucket together with the key
that reaches it, ``s3://KEY:SECRET@HOST:PORT/BUCKET/PREFIX``.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import icechunk


def storage_at(place: str) -> icechunk.Storage:
    """Make a storage of a place."""
    return _in_bucket(place) if place.startswith("s3://") else _on_disk(place)


def _on_disk(path: str) -> icechunk.Storage:
    """Make a storage of a directory; ours need not wait for the disk, no test pulls the plug."""
    ours = getattr(icechunk.storage, "LocalStorage", None)
    return icechunk.local_filesystem_storage(path) if ours is None else ours(path, durable=False)


def _in_bucket(address: str) -> icechunk.Storage:
    parts = urlsplit(address)
    bucket, _, prefix = parts.path.lstrip("/").partition("/")
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=f"http://{parts.hostname}:{parts.port}",
        allow_http=True,
        force_path_style=True,
        access_key_id=unquote(parts.username or ""),
        secret_access_key=unquote(parts.password or ""),
    )
