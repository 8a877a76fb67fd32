"""A web server with objects that can be read in part and under conditions."""

import email.utils
import http.server
import threading
from dataclasses import dataclass, field

import pytest

DATA = bytes(range(256)) * 4
MODIFIED = 1_700_000_000


@dataclass
class WebServer:
    """What one server offers, and what it was asked for."""

    port: int
    objects: dict = field(default_factory=dict)
    redirects: dict = field(default_factory=dict)
    obeys_conditions: bool = True
    etag: str = '"tag"'
    requests: list = field(default_factory=list)
    delay: threading.Event | None = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        state = self.server.state
        state.requests.append((self.path, dict(self.headers.items())))
        if self.path in state.redirects:
            self.answer(302, b"", {"Location": state.redirects[self.path]})
            return
        data = state.objects.get(self.path)
        if data is None:
            self.answer(404, b"not here", {})
            return
        facts = {
            "ETag": state.etag,
            "Last-Modified": email.utils.formatdate(MODIFIED, usegmt=True),
        }
        if state.obeys_conditions and not self.is_wanted(state):
            self.answer(412, b"", facts)
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last) + 1, len(data))
        if start >= len(data):
            self.answer(416, b"", facts)
            return
        facts["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self.answer(206, data[start:end], facts)

    def is_wanted(self, state):
        etag, time = self.headers["If-Match"], self.headers["If-Unmodified-Since"]
        if etag is not None:
            return etag in (state.etag, "*")
        return time is None or email.utils.parsedate_to_datetime(time).timestamp() >= MODIFIED

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = WebServer(server.server_port, {"/data/f": DATA, "/secret": b"s" * 1024})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    return server, thread


@pytest.fixture
def web():
    server, thread = serve()
    yield server.state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def other_web():
    server, thread = serve()
    yield server.state
    server.shutdown()
    thread.join()
    server.server_close()
