"""Headers that users add stay at the host that they were meant for.

obstore follows redirects by itself. When one leads to another host it drops the usual headers of
credentials, but would take all others along. It cannot be told not to, but can be told of a proxy
for all other hosts: one that does not exist.

Knows nothing of providers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies

if TYPE_CHECKING:
    from obstore.store import ClientConfig

    from icechunk.storage.sending import Pairs

__all__ = ["LEFT_BEHIND", "kept_at"]

LEFT_BEHIND: Final = frozenset({"authorization", "cookie", "cookie2", "proxy-authorization"})
"""Headers that obstore does not take along to another host."""

_NO_PROXY_THERE: Final = "http://127.0.0.1:1"
_PROXIED: Final = frozenset({"http", "https", "all"})


def kept_at(
    options: ClientConfig, headers: Pairs, hosts: Iterable[str], *, unless_proxied: bool = False
) -> ClientConfig:
    """Return options of a client that takes these headers to these hosts only.

    Parameters
    ----------
    options
        What the client is told otherwise.
    headers
        Headers that are part of it, names in lower case.
    hosts
        Names of hosts, or of domains with all that are below.
    unless_proxied
        Whether the options stay as they are where servers are reached through a proxy, whose place
        the one that does not exist would take.
    """
    if all(name in LEFT_BEHIND for name, _ in headers):
        return options
    if unless_proxied and ("proxy_url" in options or not _PROXIED.isdisjoint(getproxies())):
        return options
    return {**options, "proxy_url": _NO_PROXY_THERE, "proxy_excludes": ",".join(hosts)}
