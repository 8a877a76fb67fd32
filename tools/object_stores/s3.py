"""What the servers of S3's protocol share: a key, a bucket, and one signed request to make it."""

from __future__ import annotations

import hashlib
import hmac
import urllib.request
from datetime import UTC, datetime

from object_stores.process import LOOPBACK, Connection, send

KEY, SECRET, BUCKET, REGION = "icechunk-test", "not-a-secret-on-loopback", "testbucket", "us-east-1"


def make_bucket(port: int) -> Connection:
    """Make the bucket, by version 4 of Amazon's signatures; return how to reach it."""
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
    url = f"http://{host}/{BUCKET}"
    send(urllib.request.Request(url, method="PUT", headers=headers), "make the bucket")
    return {"endpoint": f"http://{host}", "bucket": BUCKET, "key": KEY, "secret": SECRET}
