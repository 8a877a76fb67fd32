"""A server in front of another one that is late, odd or broken when told to be.

Requests go on as they came, signatures included, so it stands before a server of any protocol.
"""

import http.client
from urllib.parse import urlsplit

from icechunk.testing.s3_stub import Request, Response, S3Stub

OF_CONNECTIONS = {"connection", "content-length", "expect", "transfer-encoding"}


class FaultyProxy(S3Stub):
    """Faults of the stub, but the objects are at the server with the given address."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self.upstream = urlsplit(upstream)

    @property
    def address(self) -> str:
        """What a client is told in place of the server's address."""
        return f"{self.endpoint}{self.upstream.path}"

    def handle(self, request: Request, now: float) -> Response:
        connection = http.client.HTTPConnection(self.upstream.netloc, timeout=60)
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name not in OF_CONNECTIONS:
                    connection.putheader(name, value)
            if request.body or "content-length" in request.headers:
                connection.putheader("content-length", str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
            headers = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        kept = {name: value for name, value in headers.items() if name not in OF_CONNECTIONS}
        if "etag" in kept:
            kept["ETag"] = kept.pop("etag")  # as the faults spell it
        if request.method == "HEAD":
            kept["Content-Length"] = headers.get("content-length", "0")
        return Response(answer.status, body, kept)
