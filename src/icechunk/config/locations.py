"""What the location of a virtual chunk means, and which container it is in.

Pure rules about texts. A location is kept as it was given, but for the scheme, which is lower-case,
and for ``file:`` URLs, which are normalised. What it points to is found by comparing parts of URLs
(scheme, host, decoded path), never by comparing texts alone: however a location is spelled, its
path lies below the path of its container and has no segment that could lead out of it.

Icechunk spec, "Manifest files": virtual chunk references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from icechunk.config.containers import RELATIVE_SCHEME, VirtualChunkContainer
from icechunk.errors import ErrorKind, InvalidInputError

__all__ = ["Containers", "Target", "normalized"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_IN_PATHS = re.compile(r'[ "<>`{}\x80-\U0010ffff]')
_ENCODED_IN_REST = re.compile(r'[ "<>\x80-\U0010ffff]')
_ODD_PRINTABLE: Final = '%\\?#"<>`{}'
"""Printable ASCII that URLs encode, or give a meaning."""
_ODD = re.compile(rf"[^!-~]|[{re.escape(_ODD_PRINTABLE)}]")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Target:
    """An object that a location points to."""

    container: VirtualChunkContainer
    location: str
    """The absolute URL, for messages."""
    authority: str
    """Bucket, container or host; empty for local files."""
    path: str
    """Decoded, without a leading slash: no segment is empty, ``.`` or ``..``."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The parts of a URL that decide where it points."""

    scheme: str
    authority: str
    path: str


@dataclass(frozen=True, slots=True)
class _Known:
    container: VirtualChunkContainer
    place: _Place


class Containers:
    """The containers of one configuration, ready to be asked which of them a location is in.

    Those that could not serve any location are left out.
    """

    __slots__ = ("_by_name", "_known", "plain_starts")

    def __init__(self, containers: Mapping[str, VirtualChunkContainer] | None) -> None:
        found = []
        for container in (containers or {}).values():
            try:
                place = _place(container.url_prefix)
            except InvalidInputError:
                continue
            if container.url_prefix.endswith("/"):
                found.append(_Known(container, place))
        # the longest first: of nested containers the inner one serves
        self._known = sorted(found, key=lambda known: len(known.place.path), reverse=True)
        self._by_name = {
            known.container.name: known for known in self._known if known.container.name
        }
        self.plain_starts = dict(self._plain_starts())
        """Texts such that a location which starts with one is in a container and stored as it is
        given, if all of it is printable ASCII, with none of the characters in the value, and
        nothing behind the scheme is an empty segment or one that begins with a dot."""

    def find(self, location: str) -> VirtualChunkContainer | None:
        """Return the container that a location is in, None when there is none.

        Relative locations are in the container they name, unless they lead out of it.

        Raises
        ------
        InvalidInputError
            Kind ``invalid-virtual-ref``: the location cannot be understood, or no store could
            address it.
        """
        known, place, url = self._resolve(location)
        if known is None or not _is_below(place, known.place):
            return None
        _check_segments(place.path, url)
        return known.container

    def target(self, location: str) -> Target:
        """Return the object that a location points to, and the container it is read through.

        Raises
        ------
        InvalidInputError
            Kind ``no-container-for-virtual-chunk``: no container is responsible for it. Kind
            ``invalid-virtual-ref``: the location cannot be understood, or has segments that object
            stores do not all understand alike: empty ones, ``.`` and ``..``.
        """
        known, place, url = self._resolve(location)
        if known is None or not _is_below(place, known.place):
            raise InvalidInputError(
                f"no virtual chunk container is responsible for {url}: edit the repository "
                "configuration, adding one whose prefix it starts with",
                ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
            )
        _check_segments(place.path, url)
        return Target(known.container, url, place.authority, place.path[1:])

    def _plain_starts(self) -> Iterator[tuple[str, str]]:
        for known in self._known:
            prefix, name = known.container.url_prefix, known.container.name
            if _ODD.search(prefix) is None and normalized(prefix) == prefix:
                odd = f" {_ODD_PRINTABLE}" if known.place.scheme == "file" else "%?#"
                yield prefix, odd
                if name and _ODD.search(name) is None:
                    yield f"{RELATIVE_SCHEME}{name}/", odd

    def _resolve(self, location: str) -> tuple[_Known | None, _Place, str]:
        url = normalized(location)
        if not url.startswith(RELATIVE_SCHEME):
            place = _place(url)
            inside = (known for known in self._known if _is_below(place, known.place))
            return next(inside, None), place, url
        name, _, rest = url.removeprefix(RELATIVE_SCHEME).partition("/")
        named = self._by_name.get(name)
        if named is None:
            return None, _Place("vcc", name, "/" + rest), url
        url = normalized(named.container.url_prefix + rest)
        return named, _place(url), url


def normalized(location: str) -> str:
    """Return a location as it is stored.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-virtual-ref``: it has no scheme, no bucket or host where one is needed, or
        characters that no URL has. Kind ``no-container-for-virtual-chunk``: it is relative to a
        container without a name.
    """
    if _CONTROL.search(location):
        raise _bad(location, "it has control characters")
    match = _SCHEME.fullmatch(location)
    if match is None:
        raise _bad(location, "relative URL without a base")
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _normal_file(rest)
    if not rest.startswith("//"):
        raise _bad(location, "a location starts with a scheme, `://`, and a bucket or host")
    if scheme == "vcc" and rest[2:3] in ("", "/"):
        raise InvalidInputError(
            f"no virtual chunk container has an empty name: check the location `{location}`",
            ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
        )
    if not rest[2:3] or rest[2] in "/?#":
        raise _bad(location, "it names no bucket or host")
    return f"{scheme}:{rest}"


def _check_segments(path: str, location: str) -> None:
    """Refuse paths that an object store might take for another one."""
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise InvalidInputError(
            f"the virtual chunk location {location} cannot be addressed: its path has empty (//), "
            "'.' or '..' segments, or ends in a slash; copy the object to a key without them or, "
            "for other readers only, set the reference without validating containers",
            ErrorKind.INVALID_VIRTUAL_REF,
        )


def _place(url: str) -> _Place:
    """Take a normalised URL apart, whatever follows ``?`` or ``#`` left out."""
    scheme, _, rest = normalized(url).partition("://")
    authority, _, path = rest.partition("/")
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    if scheme in _DEFAULT_PORTS:
        authority = authority.lower().removesuffix(_DEFAULT_PORTS[scheme])
    if "@" in authority or "\\" in authority:
        # what some take for a user's name others take for the host
        raise _bad(url, "its host must be a plain name, without user or password")
    if _BAD_PERCENT.search(path):
        # what stands for itself to some is an error to others
        raise _bad(url, "a % in it is not followed by two hexadecimal digits; write %25")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise _bad(url, "its path is not UTF-8") from None
    if _CONTROL.search(decoded):
        raise _bad(url, "its path has control characters")
    return _Place(scheme, authority, "/" + decoded)


def _is_below(place: _Place, container: _Place) -> bool:
    return (
        place.scheme == container.scheme
        and place.authority == container.authority
        and place.path.startswith(container.path)
    )


def _normal_file(rest: str) -> str:
    """Normalise what follows ``file:``, as browsers do."""
    rest, mark, tail = _cut(rest)
    rest = rest.replace("\\", "/")
    host, path = "", rest
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
    segments: list[str] = []
    parts = path.removeprefix("/").split("/")
    for i, part in enumerate(parts):
        is_last = i == len(parts) - 1
        plain = part.lower().replace("%2e", ".")
        if plain == ".." and segments:
            segments.pop()
        if plain in (".", ".."):
            if is_last:
                segments.append("")
        else:
            segments.append(_ENCODED_IN_PATHS.sub(_encoded, part))
    host = "" if host.lower() == "localhost" else host.lower()
    return f"file://{host}/{'/'.join(segments)}{mark}{_ENCODED_IN_REST.sub(_encoded, tail)}"


def _cut(text: str) -> tuple[str, str, str]:
    """Cut a text in two where a query or fragment begins."""
    found = re.search(r"[?#]", text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[0], text[found.end() :]


def _encoded(match: re.Match[str]) -> str:
    return quote(match[0], safe="")


def _bad(location: str, problem: str) -> InvalidInputError:
    return InvalidInputError(
        f'error parsing virtual ref URL: "{location}": {problem}', ErrorKind.INVALID_VIRTUAL_REF
    )
