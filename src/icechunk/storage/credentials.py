"""Credentials for S3 as values, and the rule that picks one kind from a constructor's arguments.

Secrets show up in no text of these objects, only in their attributes and pickles.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from icechunk._display import Block, Shown, datetime_text
from icechunk.errors import ErrorKind, InvalidInputError

_MASK = "****"


@dataclass(frozen=True, slots=True, repr=False)
class S3StaticCredentials(Shown):
    """An access key, in the user's own words.

    Parameters
    ----------
    access_key_id, secret_access_key
        The key and its secret.
    session_token
        Present for temporary keys.
    expires_after
        When a temporary key stops working. Must be timezone-aware.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        if self.expires_after is not None and self.expires_after.tzinfo is None:
            raise TypeError("expected a datetime with non-None tzinfo as expires_after")

    def _block(self) -> Block:
        when = self.expires_after
        return Block.of(
            "icechunk.credentials.S3StaticCredentials",
            {
                "access_key_id": self.access_key_id[:4] + _MASK,
                "secret_access_key": _MASK,
                "session_token": None if self.session_token is None else _MASK,
                "expires_after": None if when is None else datetime_text(when),
            },
        )


class S3Credentials:
    """How requests to S3 are signed: `FromEnv`, `Anonymous` or `Static`."""

    __slots__ = ()

    FromEnv: ClassVar[type[S3FromEnv]]
    Anonymous: ClassVar[type[S3Anonymous]]
    Static: ClassVar[type[S3Static]]


@dataclass(frozen=True, slots=True)
class S3FromEnv(S3Credentials):
    """Let the client find credentials: environment variables, web identity, instance metadata."""


@dataclass(frozen=True, slots=True)
class S3Anonymous(S3Credentials):
    """Send unsigned requests."""


@dataclass(frozen=True, slots=True)
class S3Static(S3Credentials):
    """Sign with a given key."""

    credentials: S3StaticCredentials


S3Credentials.FromEnv = S3FromEnv
S3Credentials.Anonymous = S3Anonymous
S3Credentials.Static = S3Static


def s3_credentials(
    *,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: object = None,
    scatter_initial_credentials: bool = False,
) -> S3Credentials:
    """Pick the kind of S3 credentials that the given arguments ask for.

    Nothing at all means `S3Credentials.FromEnv`. Credentials that a function refreshes are not
    supported.

    Raises
    ------
    ValueError
        If arguments of different kinds are mixed, or a key lacks its secret.
    """
    if get_credentials is not None or scatter_initial_credentials:
        raise InvalidInputError(
            "refreshable credentials (get_credentials, scatter_initial_credentials) are not "
            "supported: pass keys, anonymous=True or from_env=True",
            ErrorKind.INVALID_CREDENTIALS,
        )
    parts = (access_key_id, secret_access_key, session_token, expires_after)
    has_key = any(part is not None for part in parts)
    chosen = (has_key, bool(anonymous), bool(from_env))
    if chosen in _FROM_ENV:
        return S3FromEnv()
    if chosen == _ANONYMOUS:
        return S3Anonymous()
    if chosen == _STATIC and access_key_id is not None and secret_access_key is not None:
        return S3Static(
            S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
        )
    raise ValueError("Conflicting arguments to s3_credentials function")


# (has any part of a key, anonymous, from_env)
_FROM_ENV = frozenset({(False, False, False), (False, False, True)})
_ANONYMOUS = (False, True, False)
_STATIC = (True, False, False)
