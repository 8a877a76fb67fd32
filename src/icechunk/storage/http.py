"""Repositories behind a web server, to read.

Nothing is ever written, and nothing need be listed. obstore follows redirects by itself; when it
leaves a host it drops the usual headers of credentials, but would take all others along. So where
other headers are given, requests to any other host are led to a proxy that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from icechunk.storage import obstore_library as library
from icechunk.storage.cloud import CloudStorage

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

    from icechunk.storage.sending import Pairs

LEFT_BEHIND = frozenset({"authorization", "cookie", "cookie2", "proxy-authorization"})
"""Headers that obstore does not take along to another host."""

_NO_PROXY_THERE = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """The URL below which the objects are."""

    url: str
    prefix: str = "."  # never the root of a bucket
    read_only: bool = True
    keeps_metadata: bool = False
    config: Pairs = ()

    def names(self) -> tuple[str, ...]:
        """Name the URL."""
        return (self.url,)


class HttpStorage(CloudStorage[HttpTarget, None]):
    """Read objects below a URL; `CloudStorage` describes the parameters."""

    _scheme = "http"

    def _describe(self) -> Mapping[str, object]:
        return {"type": "HTTP", "url": self._target.url}

    def _place(self) -> str:
        return self._target.url

    def _make_client(self, *, writing: bool) -> ObjectStore:
        return library.store.HTTPStore(
            self._target.url,
            client_options=self._client_options(writing=writing),
            retry_config=self._retry_config(),
        )

    def _client_options(self, *, writing: bool) -> ClientConfig:
        options = super()._client_options(writing=writing)
        if any(name not in LEFT_BEHIND for name, _ in self._sending.read_headers):
            options["proxy_url"] = _NO_PROXY_THERE
            options["proxy_excludes"] = urlsplit(self._target.url).hostname or ""
        return options
