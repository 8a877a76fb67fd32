"""On whose behalf requests are sent: names that a provider's access logs can be searched for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icechunk._debug_info import user_agent
from icechunk._display import Block, Shown

if TYPE_CHECKING:
    from icechunk.storage.base import Storage

__all__ = ["Attribution", "attributed", "user_agent_of"]

_LONGEST = 128  # bytes
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PRODUCT = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?")
_FORBIDDEN = '()\\;="'


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Attribution(Shown):
    r"""On whose behalf a repository sends requests, told to object stores in the User-Agent.

    It has no other effect. Not for secrets: providers log it.

    Parameters
    ----------
    client
        The program, as ``name`` or ``name/version``.
    workload
        What the program is doing, in printable ASCII without ``( ) \ ; = "``.
    principal
        Whom it does that for, in the same characters.

    Raises
    ------
    ValueError
        If a text has other characters or is longer than 128 bytes.
    """

    client: str | None = None
    workload: str | None = None
    principal: str | None = None

    def __post_init__(self) -> None:
        for name in ("client", "workload", "principal"):
            _check(name, getattr(self, name))

    def _block(self) -> Block:
        shown = {
            "client": _literal(self.client),
            "workload": _literal(self.workload),
            "principal": _literal(self.principal),
        }
        return Block.of("icechunk.Attribution", shown)

    def __repr__(self) -> str:
        fields = ("client", "workload", "principal")
        lines = "".join(f"    {name}={_literal(getattr(self, name))},\n" for name in fields)
        return f"icechunk.Attribution(\n{lines})"

    def __str__(self) -> str:
        return self._block().text()


def attributed(storage: Storage, attribution: Attribution | None) -> Storage:
    """Return the storage with its requests attributed, where it sends any."""
    if attribution is None:
        return storage
    if not isinstance(attribution, Attribution):
        raise TypeError(
            f"attribution must be an icechunk.Attribution, not {type(attribution).__name__}"
        )
    return storage.attributed(attribution)


def user_agent_of(attribution: Attribution | None) -> str:
    """Write the User-Agent header."""
    if attribution is None:
        return user_agent()
    named = (("workload", attribution.workload), ("principal", attribution.principal))
    comment = "; ".join(f"{name}={value}" for name, value in named if value is not None)
    parts = [attribution.client, user_agent(), f"({comment})" if comment else None]
    return " ".join(part for part in parts if part is not None)


def _check(name: str, text: str | None) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"attribution `{name}` must be str, not {type(text).__name__}")
    if len(text.encode(errors="replace")) > _LONGEST:
        raise ValueError(f"attribution `{name}` is longer than {_LONGEST} bytes")
    if name == "client":
        if _PRODUCT.fullmatch(text) is None:
            raise ValueError(
                "attribution `client` must be `name` or `name/version` in token characters, got "
                f"{text!r}"
            )
        return
    for character in text:
        if not " " <= character <= "~" or character in _FORBIDDEN:
            raise ValueError(f"attribution `{name}` contains the forbidden character {character!r}")


def _literal(text: str | None) -> str:
    return "None" if text is None else json.dumps(text)
