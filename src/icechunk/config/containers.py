"""Where virtual chunks live: a url prefix tied to the store that serves it.

A container says nothing about credentials; those are given when a repository is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from icechunk.config import checks
from icechunk.config.base import Field, Settings
from icechunk.config.object_stores import AnyObjectStoreConfig, ObjectStoreConfig
from icechunk.errors import ErrorKind, InvalidInputError


class VirtualChunkContainer(Settings):
    """Locations starting with a prefix, and the store they are read from.

    Construction does not judge the prefix;
    `icechunk.config.RepositoryConfig.set_virtual_chunk_container` does.

    Parameters
    ----------
    url_prefix
        Start of the locations this container serves; ends in ``/``.
    store
        The store behind the prefix.
    name
        A name that makes ``vcc://name/...`` stand for the prefix.
    """

    __slots__ = ()
    _shown_as = "icechunk.virtual.VirtualChunkContainer"

    name: Field[str | None] = Field(checks.text)
    url_prefix: Field[str] = Field(checks.text, required=True)
    store: Field[AnyObjectStoreConfig] = Field(checks.instance(ObjectStoreConfig), required=True)

    def __init__(
        self, url_prefix: str, store: AnyObjectStoreConfig, name: str | None = None
    ) -> None:
        self.url_prefix = url_prefix
        self.store = store
        self.name = name


def validate(container: VirtualChunkContainer) -> None:
    """Raise `ValueError` when the container cannot serve any location.

    The prefix must end in ``/``, its scheme must be one the store can serve, and cloud prefixes
    name a bucket. A name, when there is one, is a single path component.
    """
    prefix, name = container.url_prefix, container.name
    if name is not None and (not name or "/" in name):
        raise ValueError(
            f"VirtualChunkContainer name must be non-empty and not contain '/', not {name!r}"
        )
    if not prefix.endswith("/"):
        raise ValueError(
            f"VirtualChunkContainer url_prefix must end in a / character: {prefix!r} does not"
        )
    if "\0" in prefix:
        raise ValueError(f"cannot parse url_prefix {prefix!r}: it has a null character")
    try:
        parts = urlsplit(prefix)
    except ValueError as error:
        raise ValueError(f"cannot parse url_prefix {prefix!r}: {error}") from None
    if not parts.scheme:
        raise ValueError(f"cannot parse url_prefix {prefix!r}: relative URL without a base")
    if parts.scheme not in container.store.schemes:
        raise ValueError(
            f"Invalid url prefix scheme ({parts.scheme}) for this object store config: "
            f"{prefix!r} cannot be served by {type(container.store).__name__}"
        )
    if parts.scheme in ("http", "https"):
        _check_http(prefix, parts)
    elif parts.scheme != "file" and not parts.netloc:
        raise ValueError(
            f"Url prefix for {parts.scheme}:// containers must include a host: {prefix!r} has none"
        )


RELATIVE_SCHEME: Final = "vcc://"


def absolute_location(location: str, containers: Mapping[str, VirtualChunkContainer]) -> str:
    """Return the URL of a virtual chunk; ``vcc://name/...`` is relative to a container's prefix.

    Raises
    ------
    InvalidInputError
        Kind ``no-container-for-virtual-chunk``: no container has that name.
    """
    if not location.startswith(RELATIVE_SCHEME):
        return location
    name, _, rest = location.removeprefix(RELATIVE_SCHEME).partition("/")
    for container in containers.values():
        if container.name == name:
            return container.url_prefix + rest
    raise InvalidInputError(
        f"cannot resolve `{location}`: no virtual chunk container named {name!r} found, check the "
        "repository configuration",
        ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
    )


def _check_http(prefix: str, parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"invalid port number in url_prefix {prefix!r}: {error}") from None
    if not parts.hostname:
        raise ValueError(f"empty host in url_prefix {prefix!r}")
