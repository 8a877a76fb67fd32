"""A stand-in for Google Cloud Storage: of its XML API, what our client library asks for.

obstore speaks the XML API, where conditions are headers with generations. The emulators that
package indexes offer speak the JSON API and refuse this one (fake-gcs-server answers 404 to every
upload), so this is a small server of our own, with its objects in memory. It carries conditions
out one at a time and wants the bearer token. It shows that our side of the protocol fits together;
that Google's side is like this, only Google's servers can tell.

    python tools/object_stores/gcs.py PORT      # what `Gcs` runs

Documented at https://cloud.google.com/storage/docs/xml-api/overview.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import threading
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from object_stores.process import LOOPBACK, Connection, Server, send

BUCKET, TOKEN = "testbucket", "not-a-secret-on-loopback"
PAGE = 1000
KEPT_HEADERS = ("content-type", "cache-control", "content-disposition", "content-encoding")


class Gcs(Server):
    """The stand-in, run by the interpreter that asks for it."""

    name = "gcs"
    title = "the stand-in for Google Cloud Storage"
    prefix = "ICECHUNK_TEST_GCS_"

    @classmethod
    def lacking(cls) -> list[str]:
        """Name nothing: it is part of the checkout."""
        return []

    @classmethod
    def install(cls) -> None:
        """Do nothing."""

    def _launch(self, port: int) -> None:
        self._spawn(sys.executable, str(Path(__file__).resolve()), str(port))

    def _prepare(self, port: int) -> Connection:
        endpoint = f"http://{LOOPBACK}:{port}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT", headers=headers)
        send(request, "make the bucket")
        return {"endpoint": endpoint, "bucket": BUCKET, "token": TOKEN}


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    data: bytes
    headers: dict[str, str]
    generation: int
    time: datetime

    @property
    def etag(self) -> str:
        """An entity tag, which two generations of equal content share."""
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class RefusalError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass
class Objects:
    """All buckets. Each method is one atomic step."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    last_generation: int = 0

    def bucket(self, name: str) -> dict[str, Stored]:
        """Return a bucket that exists."""
        if name not in self.buckets:
            raise RefusalError(404, "NoSuchBucket", "The specified bucket does not exist.")
        return self.buckets[name]

    def find(self, bucket: str, key: str) -> Stored:
        """Return an object that exists."""
        with self.lock:
            stored = self.bucket(bucket).get(key)
        if stored is None:
            raise RefusalError(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    def put(
        self, bucket: str, key: str, data: bytes, headers: dict[str, str], expected: str | None
    ) -> Stored:
        """Store an object if the present generation, 0 for none, is the expected one."""
        with self.lock:
            objects = self.bucket(bucket)
            present = objects[key].generation if key in objects else 0
            if expected is not None and expected != str(present):
                raise RefusalError(412, "PreconditionFailed", "a precondition does not hold")
            self.last_generation = max(self.last_generation + 1, time.time_ns() // 1000)
            stored = Stored(data, headers, self.last_generation, datetime.now(UTC))
            objects[key] = stored
            return stored

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that exists."""
        with self.lock:
            self.find(bucket, key)
            del self.bucket(bucket)[key]

    def page(self, bucket: str, prefix: str, after: str, size: int) -> tuple[list[str], str | None]:
        """Return the keys of one page, and what to go on after."""
        with self.lock:
            keys = sorted(k for k in self.bucket(bucket) if k.startswith(prefix) and k > after)
        return keys[:size], keys[size - 1] if len(keys) > size else None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    objects = Objects()

    def handle_request(self) -> None:
        """Answer one request."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: v[0] for name, v in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            if not bucket:
                raise RefusalError(400, "InvalidArgument", "no bucket")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise RefusalError(401, "AuthenticationRequired", "Authentication required.")
            if key:
                self.handle_object(bucket, key, query, body)
            else:
                self.handle_bucket(bucket, query)
        except RefusalError as refusal:
            code, text = escape(refusal.code), escape(refusal.message)
            xml = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
            self.answer(refusal.status, b"" if refusal.status == 304 else xml.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

    def handle_bucket(self, bucket: str, query: dict[str, str]) -> None:
        """Make a bucket or list one."""
        objects = self.objects
        if self.command == "PUT":
            with objects.lock:
                objects.buckets.setdefault(bucket, {})
            self.answer(200)
            return
        if self.command != "GET" or query.get("list-type") != "2" or query.get("delimiter"):
            raise RefusalError(501, "NotImplemented", f"{self.command} of a bucket with {query}")
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after") or ""
        size = min(int(query.get("max-keys", PAGE)), PAGE)
        keys, following = objects.page(bucket, prefix, after, size)
        rows = []
        for key in keys:
            stored = objects.buckets[bucket].get(key)
            if stored is not None:
                at = stored.time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
                rows.append(
                    f"<Contents><Key>{escape(key)}</Key><Generation>{stored.generation}"
                    f"</Generation><LastModified>{at}</LastModified><ETag>{stored.etag}</ETag>"
                    f"<Size>{len(stored.data)}</Size></Contents>"
                )
        more = ""
        if following is not None:
            more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>"
        xml = f"<ListBucketResult><Name>{escape(bucket)}</Name>{more}{''.join(rows)}"
        self.answer(200, (xml + "</ListBucketResult>").encode())

    def handle_object(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        """Carry out what is asked of one object."""
        objects, uploads = self.objects, self.objects.uploads
        expected = self.headers.get("x-goog-if-generation-match")
        match self.command, set(query):
            case "GET" | "HEAD", _:
                self.read(objects.find(bucket, key))
            case "DELETE", ids if "uploadId" in ids:
                uploads.pop(query["uploadId"], None)
                self.answer(204)
            case "DELETE", _:
                objects.delete(bucket, key)
                self.answer(204)
            case "POST", ids if "uploads" in ids:
                upload = uuid.uuid4().hex
                uploads[upload] = (self.kept_headers(), {})
                xml = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                self.answer(200, (xml + "</InitiateMultipartUploadResult>").encode())
            case "PUT", ids if "uploadId" in ids:
                uploads[query["uploadId"]][1][int(query["partNumber"])] = body
                self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
            case "POST", ids if "uploadId" in ids:
                headers, pieces = uploads.pop(query["uploadId"])
                wanted = map(int, re.findall(rb"<PartNumber>(\d+)<", body))
                data = b"".join(pieces[number] for number in wanted)
                stored = objects.put(bucket, key, data, headers, expected)
                xml = f"<CompleteMultipartUploadResult><ETag>{escape(stored.etag)}</ETag>"
                xml += "</CompleteMultipartUploadResult>"
                generation = {"x-goog-generation": str(stored.generation)}
                self.answer(200, xml.encode(), **generation)
            case "PUT", _:
                headers = self.kept_headers()
                if source := self.headers.get("x-goog-copy-source"):
                    from_bucket, _, from_key = unquote(source).lstrip("/").partition("/")
                    original = objects.find(from_bucket, from_key)
                    body, headers = original.data, original.headers
                stored = objects.put(bucket, key, body, headers, expected)
                self.answer(200, **self.about(stored))
            case _:
                raise RefusalError(
                    501, "NotImplemented", f"{self.command} of an object with {query}"
                )

    def read(self, stored: Stored) -> None:
        """Answer with an object, or part of it."""
        if self.headers.get("If-None-Match") in (stored.etag, stored.etag.strip('"')):
            raise RefusalError(304, "NotModified")
        data, status, extra = stored.data, 200, {}
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
            first, last = asked[1], asked[2]
            begin = int(first) if first else max(0, len(data) - int(last))
            end = min(int(last) + 1, len(data)) if first and last else len(data)
            if begin >= len(data):
                raise RefusalError(416, "InvalidRange", "The requested range cannot be satisfied.")
            extra["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
            data, status = data[begin:end], 206
        self.answer(status, data, **stored.headers, **self.about(stored), **extra)

    def kept_headers(self) -> dict[str, str]:
        """Return the headers that are stored with an object."""
        named = {name.lower(): text for name, text in self.headers.items()}
        return {
            name: text
            for name, text in named.items()
            if name in KEPT_HEADERS or name.startswith("x-goog-meta-")
        }

    def about(self, stored: Stored) -> dict[str, str]:
        """Return the headers that describe a generation."""
        return {
            "ETag": stored.etag,
            "Last-Modified": format_datetime(stored.time, usegmt=True),
            "x-goog-generation": str(stored.generation),
            "x-goog-hash": "md5=" + base64.b64encode(hashlib.md5(stored.data).digest()).decode(),
        }

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer; to a HEAD, all of it but the body."""
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: every request would be a line."""


class Listener(ThreadingHTTPServer):
    """A thread per connection, which does not outlive the process."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Listener((LOOPBACK, int(sys.argv[1])), Handler).serve_forever()
