"""Where repositories of the tests are: a text names the place, and means the same to both sides.

A place is the path of a directory, or the address of a prefix in a bucket together with the key
that reaches it: ``s3://KEY:SECRET@HOST:PORT/BUCKET/PREFIX``,
``az://ACCOUNT:KEY@HOST:PORT/CONTAINER/PREFIX`` or ``gs://:TOKEN@HOST:PORT/BUCKET/PREFIX``.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import icechunk


def storage_at(place: str) -> icechunk.Storage:
    """Make a storage of a place."""
    scheme, divider, _ = place.partition("://")
    if not divider:
        return _on_disk(place)
    parts = urlsplit(place)
    bucket, _, prefix = parts.path.lstrip("/").partition("/")
    user, secret = (unquote(text or "") for text in (parts.username, parts.password))
    make = {"s3": _on_s3, "az": _on_azure, "gs": _on_google}[scheme]
    return make(f"http://{parts.hostname}:{parts.port}", bucket, prefix, user, secret)


def _on_disk(path: str) -> icechunk.Storage:
    """Make a storage of a directory; ours need not wait for the disk, no test pulls the plug."""
    ours = getattr(icechunk.storage, "LocalStorage", None)
    return icechunk.local_filesystem_storage(path) if ours is None else ours(path, durable=False)


def _on_s3(endpoint: str, bucket: str, prefix: str, user: str, secret: str) -> icechunk.Storage:
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id=user,
        secret_access_key=secret,
    )


def _on_azure(endpoint: str, bucket: str, prefix: str, user: str, secret: str) -> icechunk.Storage:
    return icechunk.azure_storage(
        account=user,
        container=bucket,
        prefix=prefix,
        access_key=secret,
        config={"endpoint": f"{endpoint}/{user}", "allow_http": "true"},
    )


def _on_google(endpoint: str, bucket: str, prefix: str, _: str, secret: str) -> icechunk.Storage:
    return icechunk.gcs_storage(
        bucket=bucket,
        prefix=prefix,
        bearer_token=secret,
        config={"base_url": endpoint, "allow_http": "true"},
    )
