"""Repositories behind a web server, to read.

Nothing is ever written, and nothing need be listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from icechunk.storage import obstore_library as library
from icechunk.storage.cloud import CloudStorage
from icechunk.storage.headers import kept_at

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

    from icechunk.storage.sending import Pairs


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
        host = urlsplit(self._target.url).hostname or ""
        return kept_at(options, self._sending.read_headers, [host])
