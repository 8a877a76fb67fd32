"""Credentials for Google Cloud Storage as values, and the rule that picks one kind.

Secrets show up in no text of these objects, only in their attributes and pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from icechunk.storage.masked import Masked, check_expiry
from icechunk.storage.refresh import Source, pickled, source_of

__all__ = [
    "AnyGcsCredential",
    "AnyGcsStaticCredential",
    "GcsBearerCredential",
    "GcsCredentials",
    "GcsStaticCredentials",
    "gcs_anonymous_credentials",
    "gcs_credentials",
    "gcs_from_env_credentials",
    "gcs_refreshable_credentials",
    "gcs_static_credentials",
]


@dataclass(frozen=True, slots=True, repr=False)
class GcsBearerCredential(Masked):
    """A bearer token, as a function that refreshes credentials returns it.

    Parameters
    ----------
    bearer
        The token.
    expires_after
        When it stops working. Must be timezone-aware.
    """

    _name = "GcsBearerCredential"

    bearer: str
    _: KW_ONLY
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        check_expiry(self.expires_after)


class GcsStaticCredentials(Masked):
    """Credentials that stay as they are.

    `ServiceAccount` and `ApplicationCredentials` are paths of files, `ServiceAccountKey` is the
    content of one, `BearerToken` a token.
    """

    __slots__ = ()

    ServiceAccount: ClassVar[type[GcsServiceAccount]]
    ServiceAccountKey: ClassVar[type[GcsServiceAccountKey]]
    ApplicationCredentials: ClassVar[type[GcsApplicationCredentials]]
    BearerToken: ClassVar[type[GcsBearerToken]]

    def __new__(cls, *arguments: object, **named: object) -> GcsStaticCredentials:
        """Make one of the kinds."""
        if cls is GcsStaticCredentials:
            raise TypeError("GcsStaticCredentials has no instances; use one of its nested classes")
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class GcsServiceAccount(GcsStaticCredentials):
    """The key of a service account, by the path of its file."""

    _name = "GcsStaticCredentials.ServiceAccount"
    _harmless = ("path",)

    path: str


@dataclass(frozen=True, slots=True, repr=False)
class GcsServiceAccountKey(GcsStaticCredentials):
    """The key of a service account, as JSON."""

    _name = "GcsStaticCredentials.ServiceAccountKey"

    key: str


@dataclass(frozen=True, slots=True, repr=False)
class GcsApplicationCredentials(GcsStaticCredentials):
    """Application default credentials, by the path of their file."""

    _name = "GcsStaticCredentials.ApplicationCredentials"
    _harmless = ("path",)

    path: str


@dataclass(frozen=True, slots=True, repr=False)
class GcsBearerToken(GcsStaticCredentials):
    """A bearer token."""

    _name = "GcsStaticCredentials.BearerToken"

    token: str


GcsStaticCredentials.ServiceAccount = GcsServiceAccount
GcsStaticCredentials.ServiceAccountKey = GcsServiceAccountKey
GcsStaticCredentials.ApplicationCredentials = GcsApplicationCredentials
GcsStaticCredentials.BearerToken = GcsBearerToken

AnyGcsStaticCredential: TypeAlias = (
    GcsServiceAccount | GcsServiceAccountKey | GcsApplicationCredentials | GcsBearerToken
)


class GcsCredentials(Masked):
    """How requests are authorized: `FromEnv`, `Anonymous`, `Static` or `Refreshable`."""

    __slots__ = ()

    Anonymous: ClassVar[type[GcsAnonymous]]
    FromEnv: ClassVar[type[GcsFromEnv]]
    Static: ClassVar[type[GcsStatic]]
    Refreshable: ClassVar[type[GcsRefreshable]]

    def __new__(cls, *arguments: object, **named: object) -> GcsCredentials:
        """Make one of the kinds."""
        if cls is GcsCredentials:
            raise TypeError("GcsCredentials has no instances; use one of its nested classes")
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class GcsAnonymous(GcsCredentials):
    """Send requests without credentials."""

    _name = "GcsCredentials.Anonymous"


@dataclass(frozen=True, slots=True, repr=False)
class GcsFromEnv(GcsCredentials):
    """Let the client find credentials: environment variables, files, instance metadata."""

    _name = "GcsCredentials.FromEnv"


@dataclass(frozen=True, slots=True, repr=False)
class GcsStatic(GcsCredentials):
    """Use credentials that stay as they are."""

    _name = "GcsCredentials.Static"

    credentials: AnyGcsStaticCredential


@dataclass(frozen=True, slots=True, repr=False)
class GcsRefreshable(GcsCredentials):
    """Use tokens that a function hands out, one after the other expires."""

    _name = "GcsCredentials.Refreshable"

    pickled_function: bytes
    current: GcsBearerCredential | None = None

    def source(self) -> Source[GcsBearerCredential]:
        """Return where this process gets the function's answers."""
        return source_of(self.pickled_function, (GcsBearerCredential,))


GcsCredentials.Anonymous = GcsAnonymous
GcsCredentials.FromEnv = GcsFromEnv
GcsCredentials.Static = GcsStatic
GcsCredentials.Refreshable = GcsRefreshable

AnyGcsCredential: TypeAlias = GcsAnonymous | GcsFromEnv | GcsStatic | GcsRefreshable


def gcs_refreshable_credentials(
    get_credentials: Callable[[], GcsBearerCredential], scatter_initial_credentials: bool = False
) -> GcsRefreshable:
    """Make credentials that a function hands out whenever the last ones are about to expire.

    Parameters
    ----------
    get_credentials
        Returns a token. It is pickled right here and travels with every pickle of what uses it;
        the copies in one process share its answers.
    scatter_initial_credentials
        Call the function now, and let pickles carry the answer, so that many workers that start
        at once need not ask. Those who can read such a pickle can read the token.
    """
    return GcsRefreshable(*pickled(get_credentials, call=scatter_initial_credentials))


def gcs_static_credentials(
    *,
    service_account_file: str | None = None,
    service_account_key: str | None = None,
    application_credentials: str | None = None,
    bearer_token: str | None = None,
) -> AnyGcsStaticCredential:
    """Make credentials that stay as they are; of several, the first one counts.

    Parameters
    ----------
    service_account_file
        Path of the file with the key of a service account.
    service_account_key
        What such a file holds, JSON.
    application_credentials
        Path of a file with application default credentials.
    bearer_token
        A token.

    Raises
    ------
    ValueError
        If nothing is given.
    """
    if service_account_file is not None:
        return GcsServiceAccount(service_account_file)
    if service_account_key is not None:
        return GcsServiceAccountKey(service_account_key)
    if application_credentials is not None:
        return GcsApplicationCredentials(application_credentials)
    if bearer_token is not None:
        return GcsBearerToken(bearer_token)
    raise ValueError("Conflicting arguments to gcs_static_credentials function")


def gcs_anonymous_credentials() -> GcsAnonymous:
    """Make credentials for requests without any."""
    return GcsAnonymous()


def gcs_from_env_credentials() -> GcsFromEnv:
    """Make credentials that the client finds in the environment it runs in."""
    return GcsFromEnv()


def gcs_credentials(
    *,
    service_account_file: str | None = None,
    service_account_key: str | None = None,
    application_credentials: str | None = None,
    bearer_token: str | None = None,
    from_env: bool | None = None,
    anonymous: bool | None = None,
    get_credentials: Callable[[], GcsBearerCredential] | None = None,
    scatter_initial_credentials: bool = False,
) -> AnyGcsCredential:
    """Pick the kind of Google Cloud Storage credentials that the given arguments ask for.

    Nothing at all means `GcsCredentials.FromEnv`, and `anonymous` prevails over everything.

    Parameters
    ----------
    service_account_file, service_account_key, application_credentials, bearer_token
        Credentials that stay; see `gcs_static_credentials`.
    from_env
        Whether the client looks for credentials in its environment.
    anonymous
        Whether requests go without credentials.
    get_credentials, scatter_initial_credentials
        A function that hands out tokens; see `gcs_refreshable_credentials`.

    Raises
    ------
    ValueError
        If other kinds are mixed, or none is left.
    """
    if anonymous:
        return GcsAnonymous()
    statics = (service_account_file, service_account_key, application_credentials, bearer_token)
    has_static = any(value is not None for value in statics)
    if has_static + (get_credentials is not None) + bool(from_env) <= 1:
        if get_credentials is not None:
            return gcs_refreshable_credentials(get_credentials, scatter_initial_credentials)
        if has_static:
            return GcsStatic(
                gcs_static_credentials(
                    service_account_file=service_account_file,
                    service_account_key=service_account_key,
                    application_credentials=application_credentials,
                    bearer_token=bearer_token,
                )
            )
        if from_env is None or from_env:
            return GcsFromEnv()
    raise ValueError("Conflicting arguments to gcs_credentials function")
