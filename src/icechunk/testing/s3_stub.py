"""A small S3 server in this process, on loopback, that is late, odd or broken when told to be.

For tests of what happens between a client and a store: every request can be answered late, wrongly,
half or not at all, before or after it took effect. Data are kept in memory. Signatures are not
checked, so any key will do. Not for anything but tests.

As a program it serves until it is stopped, and prints its address first::

    python -m icechunk.testing.s3_stub --latency-ms 20

The server runs on an event loop in a thread of its own, which ends with it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["STALL_SECONDS", "Fault", "Request", "Response", "S3Stub"]

LOOPBACK: Final = "127.0.0.1"
BUCKET: Final = "testbucket"
STALL_SECONDS: Final = 30
"""Longer than anybody should wait for an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    method: str
    key: str
    """Empty for requests about the bucket."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""
    target: str = ""
    """Path and query as they were sent."""

    @property
    def verb(self) -> str:
        """Name what it does, for people."""
        if "x-amz-copy-source" in self.headers:
            return "COPY"
        if self.method == "POST" and "delete" in self.query:
            return "DELETE"
        return "LIST" if self.method == "GET" and not self.key else self.method


@dataclass(frozen=True, slots=True)
class Response:
    """What it is told."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def plus(self, headers: Mapping[str, str]) -> Response:
        """Return it with more headers."""
        return replace(self, headers={**self.headers, **headers})


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a request.

    Parameters
    ----------
    name
        What it is called in the names of tests.
    before
        Whether it happens before the request takes effect, which it then never does; otherwise
        only the answer suffers.
    drop
        Whether the connection is reset in place of an answer.
    stall
        Whether no answer comes for a long time.
    status, headers
        What is answered instead of the truth.
    keep
        Part of the body that is sent before the connection is reset.
    shorten
        Part of the body that is sent as if it were all of it.
    etag
        Entity tag to give in place of the real one.
    ahead_seconds
        How far the clock of the server is ahead.
    """

    name: str
    before: bool = False
    drop: bool = False
    stall: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: float | None = None
    shorten: float | None = None
    etag: str | None = None
    ahead_seconds: float = 0


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    modified: float
    metadata: Mapping[str, str]


class _Drop(Exception):  # noqa: N818  (an instruction, not an error)
    """Reset the connection."""


class S3Stub:
    """An S3 server; a context manager that starts and stops it.

    Parameters
    ----------
    latency_ms
        Time before each answer.
    ignore_create, ignore_update
        Conditions that are taken and ignored.
    unquoted_only
        Whether ``If-Match`` holds for entity tags without quotes only.
    drop_metadata
        Whether user metadata is forgotten.
    no_copies
        Whether copying is not implemented.
    ahead_seconds
        How far its clock is ahead.
    port
        Where to listen; any free port by default.
    stall_seconds
        How long a fault that stalls keeps a client waiting before the connection is reset.
    """

    def __init__(
        self,
        *,
        latency_ms: float = 0,
        ignore_create: bool = False,
        ignore_update: bool = False,
        unquoted_only: bool = False,
        drop_metadata: bool = False,
        no_copies: bool = False,
        ahead_seconds: float = 0,
        port: int = 0,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.latency_ms = latency_ms
        self.ignore_create = ignore_create
        self.ignore_update = ignore_update
        self.unquoted_only = unquoted_only
        self.drop_metadata = drop_metadata
        self.no_copies = no_copies
        self.ahead_seconds = ahead_seconds
        self.stall_seconds = stall_seconds
        self.objects: dict[str, _Object] = {}
        self.requests: list[tuple[str, str]] = []
        """Verb and key of every request since `arm` or `disarm` was called."""
        self.busy = self.most_busy = 0
        """Requests that are being answered, now and at most."""
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count()
        self._fault: Fault | None = None
        self._at: int | None = None
        self._often = False
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def bucket(self) -> str:
        """The only bucket there is."""
        return BUCKET

    def arm(self, fault: Fault, at: int = 0, *, often: bool = False) -> None:
        """Have a fault happen to the request `at`, counted from now, or `often`: from there on."""
        self._fault, self._at, self._often = fault, at, often
        self.requests.clear()

    def disarm(self) -> None:
        """Let everything be right again."""
        self.heal()
        self.requests.clear()

    def heal(self) -> None:
        """Let everything be right again, and go on with the list of requests."""
        self._fault = None

    def clone(self, source: str, target: str) -> None:
        """Copy everything below a prefix, at once."""
        for key, found in list(self.objects.items()):
            if key.startswith(source):
                self.objects[target + key.removeprefix(source)] = found

    # --- running -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        ready: Future[int] = Future()

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                raise

        self._thread = threading.Thread(target=run, name="icechunk-s3-stub", daemon=True)
        self._thread.start()
        self._port = ready.result(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join(30)

    async def _serve(self, ready: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        conversations: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            conversations.add(task)
            try:
                await self._converse(reader, writer)
            except (_Drop, ConnectionError, asyncio.IncompleteReadError):
                writer.transport.abort()
            except asyncio.CancelledError:
                writer.transport.abort()
            finally:
                conversations.discard(task)
                writer.close()

        server = await asyncio.start_server(converse, LOOPBACK, self._port, limit=1 << 20)
        ready.set_result(server.sockets[0].getsockname()[1])
        await self._stopping.wait()
        server.close()
        for task in list(conversations):
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    # --- the protocol --------------------------------------------------------------------------

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await _read_request(reader, writer)
            if request is None:
                return
            number = len(self.requests)
            self.requests.append((request.verb, request.key))
            fault = self._fault_at(number)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            try:
                if self.latency_ms:
                    await asyncio.sleep(self.latency_ms / 1000)
                response = await self._answer(request, fault)
            finally:
                self.busy -= 1
            await _write_response(writer, request, response, fault)

    def _fault_at(self, number: int) -> Fault | None:
        if self._fault is None or self._at is None:
            return None
        hit = number >= self._at if self._often else number == self._at
        return self._fault if hit else None

    async def _answer(self, request: Request, fault: Fault | None) -> Response:
        if fault is not None and fault.before:
            return await self._go_wrong(fault, Response(500))
        ahead = fault.ahead_seconds if fault else 0
        response = self.handle(request, time.time() + self.ahead_seconds + ahead)
        if ahead and "Last-Modified" in response.headers:
            modified = parsedate_to_datetime(response.headers["Last-Modified"]).timestamp() + ahead
            changed = {"Last-Modified": formatdate(modified, usegmt=True)}
            response = response.plus(changed)
        return response if fault is None else await self._go_wrong(fault, response)

    async def _go_wrong(self, fault: Fault, response: Response) -> Response:
        if fault.stall:
            await asyncio.sleep(self.stall_seconds)
        if fault.drop or fault.stall:
            raise _Drop
        if fault.status is not None:
            return _error(fault.status, "SlowDown", "Please reduce your request rate.").plus(
                fault.headers
            )
        if fault.shorten is not None and response.body:
            kept = int(len(response.body) * fault.shorten)
            response = replace(response, body=response.body[:kept])
        if fault.etag is not None and "ETag" in response.headers:
            response = response.plus({"ETag": f'"{fault.etag}"'})
        return response

    def handle(self, request: Request, now: float) -> Response:
        """Carry out a request: what a subclass may have another server do."""
        if not request.key:
            if request.method == "POST" and "delete" in request.query:
                return self._delete_many(request)
            if request.method == "GET":
                return self._list(request)
            return Response(200)  # the bucket is there
        actions: dict[str, Callable[[Request, float], Response]] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "POST": self._post,
            "DELETE": self._delete,
        }
        return actions[request.method](request, now)

    def _get(self, request: Request, now: float) -> Response:
        found = self.objects.get(request.key)
        if found is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if _names(request.headers.get("if-none-match"), found.etag):
            return Response(304, headers={"ETag": f'"{found.etag}"'})
        headers = {
            "ETag": f'"{found.etag}"',
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            **found.metadata,
        }
        size = len(found.data)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Response(200, found.data, headers)
        first, last = wanted.groups()
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start >= size:
            return _error(416, "InvalidRange", "The requested range is not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Response(206, found.data[start:end], headers)

    def _put(self, request: Request, now: float) -> Response:
        if "uploadId" in request.query:
            parts = self._uploads[request.query["uploadId"]]
            parts[int(request.query["partNumber"])] = request.body
            return Response(200, headers={"ETag": f'"{_md5(request.body)}"'})
        source = request.headers.get("x-amz-copy-source")
        if source is not None:
            if self.no_copies:
                return _error(501, "NotImplemented", "Copying is not implemented.")
            found = self.objects.get(unquote(source).lstrip("/").partition("/")[2])
            if found is None:
                return _error(404, "NoSuchKey", "The specified key does not exist.")
            self.objects[request.key] = replace(found, modified=now)
            return _xml("CopyObjectResult", f"<ETag>&quot;{found.etag}&quot;</ETag>")
        present = self.objects.get(request.key)
        if_match = request.headers.get("if-match")
        if "if-none-match" in request.headers and present is not None and not self.ignore_create:
            return _error(412, "PreconditionFailed", "At least one of the conditions did not hold")
        if if_match is not None and not self.ignore_update:
            if present is None:
                return _error(404, "NoSuchKey", "The specified key does not exist.")
            is_quoted = if_match.startswith('"')
            if not _names(if_match, present.etag) or (is_quoted and self.unquoted_only):
                return _error(412, "PreconditionFailed", "One of the conditions did not hold")
        metadata = {
            name: value
            for name, value in request.headers.items()
            if name.startswith("x-amz-meta-") and not self.drop_metadata
        }
        return self._store(request.key, request.body, now, metadata)

    def _store(self, key: str, data: bytes, now: float, metadata: Mapping[str, str]) -> Response:
        etag = _md5(data)
        self.objects[key] = _Object(data, etag, now, metadata)
        return Response(200, headers={"ETag": f'"{etag}"'})

    def _post(self, request: Request, now: float) -> Response:
        if "uploads" in request.query:
            upload = f"upload-{next(self._numbers)}"
            self._uploads[upload] = {}
            names = f"<Bucket>{BUCKET}</Bucket><Key>{escape(request.key)}</Key>"
            return _xml("InitiateMultipartUploadResult", f"{names}<UploadId>{upload}</UploadId>")
        parts = self._uploads.pop(request.query["uploadId"])
        data = b"".join(parts[number] for number in sorted(parts))
        etag = self._store(request.key, data, now, {}).headers["ETag"]
        return _xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def _delete(self, request: Request, now: float) -> Response:
        self.objects.pop(request.key, None)
        return Response(204)

    def _delete_many(self, request: Request) -> Response:
        keys = re.findall(r"<Key>(.*?)</Key>", request.body.decode())
        for key in keys:
            self.objects.pop(key, None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return _xml("DeleteResult", gone)

    def _list(self, request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        after = request.query.get("continuation-token", "")
        most = int(request.query.get("max-keys", "1000"))
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page = keys[:most]
        entries = [f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>"]
        for key in page:
            found = self.objects[key]
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(found.modified))
            entries.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{stamp}.000Z</LastModified>"
                f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{len(found.data)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        is_cut = len(page) < len(keys)
        entries.append(f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>")
        entries.append(f"<IsTruncated>{'true' if is_cut else 'false'}</IsTruncated>")
        if is_cut:
            entries.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        return _xml("ListBucketResult", "".join(entries))


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    if "aws-chunked" in headers.get("content-encoding", ""):
        body = _without_signatures(body)
    parts = urlsplit(target)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, key, query, headers, body, target)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailing headers
    return b"".join(chunks)


def _without_signatures(body: bytes) -> bytes:
    """Take a body apart that comes in chunks with signatures or a checksum at the end."""
    chunks: list[bytes] = []
    place = 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(chunks)
        chunks.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2


async def _write_response(
    writer: asyncio.StreamWriter, request: Request, response: Response, fault: Fault | None
) -> None:
    body = response.body
    headers = {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True)}
    headers.update(response.headers)
    lines = [f"HTTP/1.1 {response.status} As Told"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sent = b"" if request.method == "HEAD" or response.status in (204, 304) else body
    if fault is not None and fault.keep is not None and sent:
        sent = sent[: int(len(sent) * fault.keep)]
        writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
        with suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(0.01)  # until the client has it
        raise _Drop
    writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
    await writer.drain()


def _names(condition: str | None, etag: str) -> bool:
    return condition is not None and condition.strip('"') == etag


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _xml(root: str, content: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{root}>{content}</{root}>'
    return Response(200, text.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str, message: str) -> Response:
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    return replace(_xml("Error", inner), status=status)


def main(arguments: Iterable[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="An S3 server for tests, on loopback.")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    with S3Stub(latency_ms=chosen.latency_ms, port=chosen.port) as server:
        print(server.endpoint, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
