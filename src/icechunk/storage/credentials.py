"""Credentials for S3 as values, and the rule that picks one kind from a constructor's arguments.

Secrets show up in no text of these objects, only in their attributes and pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from icechunk._display import Block, datetime_text
from icechunk.storage.masked import MASK, Masked, check_expiry
from icechunk.storage.refresh import Source, pickled, source_of

__all__ = [
    "AnyS3Credential",
    "S3Credentials",
    "S3StaticCredentials",
    "s3_anonymous_credentials",
    "s3_credentials",
    "s3_from_env_credentials",
    "s3_refreshable_credentials",
    "s3_static_credentials",
]


@dataclass(frozen=True, slots=True, repr=False)
class S3StaticCredentials(Masked):
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

    _name = "S3StaticCredentials"
    _harmless = ("access_key_id",)

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        check_expiry(self.expires_after)

    def _block(self) -> Block:
        when = self.expires_after
        return Block.of(
            "icechunk.credentials.S3StaticCredentials",
            {
                "access_key_id": self.access_key_id[:4] + MASK,
                "secret_access_key": MASK,
                "session_token": None if self.session_token is None else MASK,
                "expires_after": None if when is None else datetime_text(when),
            },
        )


class S3Credentials(Masked):
    """How requests to S3 are signed: `FromEnv`, `Anonymous`, `Static` or `Refreshable`."""

    __slots__ = ()

    FromEnv: ClassVar[type[S3FromEnv]]
    Anonymous: ClassVar[type[S3Anonymous]]
    Static: ClassVar[type[S3Static]]
    Refreshable: ClassVar[type[S3Refreshable]]

    def __new__(cls, *arguments: object, **named: object) -> S3Credentials:
        """Make one of the kinds."""
        if cls is S3Credentials:
            raise TypeError("S3Credentials has no instances; use one of its nested classes")
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class S3FromEnv(S3Credentials):
    """Let the client find credentials: environment variables, web identity, instance metadata."""

    _name = "S3Credentials.FromEnv"


@dataclass(frozen=True, slots=True, repr=False)
class S3Anonymous(S3Credentials):
    """Send unsigned requests."""

    _name = "S3Credentials.Anonymous"


@dataclass(frozen=True, slots=True, repr=False)
class S3Static(S3Credentials):
    """Sign with a given key."""

    _name = "S3Credentials.Static"

    credentials: S3StaticCredentials


@dataclass(frozen=True, slots=True, repr=False)
class S3Refreshable(S3Credentials):
    """Sign with keys that a function hands out, one after the other expires."""

    _name = "S3Credentials.Refreshable"

    pickled_function: bytes
    current: S3StaticCredentials | None = None

    def source(self) -> Source[S3StaticCredentials]:
        """Return where this process gets the function's answers."""
        return source_of(self.pickled_function, (S3StaticCredentials,))


S3Credentials.FromEnv = S3FromEnv
S3Credentials.Anonymous = S3Anonymous
S3Credentials.Static = S3Static
S3Credentials.Refreshable = S3Refreshable

AnyS3Credential: TypeAlias = S3Static | S3Anonymous | S3FromEnv | S3Refreshable


def s3_refreshable_credentials(
    get_credentials: Callable[[], S3StaticCredentials], scatter_initial_credentials: bool = False
) -> S3Refreshable:
    """Make credentials that a function hands out whenever the last ones are about to expire.

    Parameters
    ----------
    get_credentials
        Returns credentials. It is pickled right here and travels with every pickle of what uses
        it; the copies in one process share its answers.
    scatter_initial_credentials
        Call the function now, and let pickles carry the answer, so that many workers that start
        at once need not ask. Those who can read such a pickle can read the credentials.
    """
    return S3Refreshable(*pickled(get_credentials, call=scatter_initial_credentials))


def s3_static_credentials(
    *,
    access_key_id: str,
    secret_access_key: str,
    session_token: str | None = None,
    expires_after: datetime | None = None,
) -> S3Static:
    """Make credentials of one key.

    Parameters
    ----------
    access_key_id, secret_access_key
        The key and its secret.
    session_token
        Present for temporary keys.
    expires_after
        When a temporary key stops working. Must be timezone-aware.
    """
    return S3Static(
        S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
    )


def s3_anonymous_credentials() -> S3Anonymous:
    """Make credentials for requests without a signature."""
    return S3Anonymous()


def s3_from_env_credentials() -> S3FromEnv:
    """Make credentials that the client finds in the environment it runs in."""
    return S3FromEnv()


def s3_credentials(
    *,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
) -> AnyS3Credential:
    """Pick the kind of S3 credentials that the given arguments ask for.

    Nothing at all means `S3Credentials.FromEnv`.

    Parameters
    ----------
    access_key_id, secret_access_key, session_token, expires_after
        A key; see `s3_static_credentials`.
    anonymous
        Whether requests go unsigned.
    from_env
        Whether the client looks for credentials in its environment.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `s3_refreshable_credentials`.

    Raises
    ------
    ValueError
        If arguments of different kinds are mixed, or a key lacks its secret.
    """
    parts = (access_key_id, secret_access_key, session_token, expires_after)
    has_key = any(part is not None for part in parts)
    chosen = (has_key, bool(anonymous), bool(from_env), get_credentials is not None)
    if chosen in _FROM_ENV:
        return S3FromEnv()
    if chosen == _ANONYMOUS:
        return S3Anonymous()
    if chosen == _REFRESHABLE and get_credentials is not None:
        return s3_refreshable_credentials(get_credentials, scatter_initial_credentials)
    if chosen == _STATIC and access_key_id is not None and secret_access_key is not None:
        return S3Static(
            S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
        )
    raise ValueError("Conflicting arguments to s3_credentials function")


# (has any part of a key, anonymous, from_env, has a function)
_FROM_ENV = frozenset({(False, False, False, False), (False, False, True, False)})
_ANONYMOUS = (False, True, False, False)
_STATIC = (True, False, False, False)
_REFRESHABLE = (False, False, False, True)
