"""Credentials for Azure Blob Storage as values, and the rule that picks one kind.

Secrets show up in no text of these objects, only in their attributes and pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from icechunk.storage.masked import Masked, check_expiry
from icechunk.storage.refresh import Source, pickled, source_of

__all__ = [
    "AnyAzureCredential",
    "AnyAzureStaticCredential",
    "AzureCredentials",
    "AzureRefreshableCredential",
    "AzureStaticCredentials",
    "azure_anonymous_credentials",
    "azure_credentials",
    "azure_from_env_credentials",
    "azure_refreshable_credentials",
    "azure_static_credentials",
]


class AzureStaticCredentials(Masked):
    """Credentials that stay as they are: `AccessKey`, `SasToken` or `BearerToken`."""

    __slots__ = ()

    AccessKey: ClassVar[type[AzureAccessKey]]
    SasToken: ClassVar[type[AzureSasToken]]
    BearerToken: ClassVar[type[AzureBearerToken]]

    def __new__(cls, *arguments: object, **named: object) -> AzureStaticCredentials:
        """Make one of the kinds."""
        if cls is AzureStaticCredentials:
            raise TypeError(
                "AzureStaticCredentials has no instances; use one of its nested classes"
            )
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class AzureAccessKey(AzureStaticCredentials):
    """The key of a storage account."""

    _name = "AzureStaticCredentials.AccessKey"

    key: str


@dataclass(frozen=True, slots=True, repr=False)
class AzureSasToken(AzureStaticCredentials):
    """A shared access signature."""

    _name = "AzureStaticCredentials.SasToken"

    token: str


@dataclass(frozen=True, slots=True, repr=False)
class AzureBearerToken(AzureStaticCredentials):
    """A bearer token."""

    _name = "AzureStaticCredentials.BearerToken"

    token: str


AzureStaticCredentials.AccessKey = AzureAccessKey
AzureStaticCredentials.SasToken = AzureSasToken
AzureStaticCredentials.BearerToken = AzureBearerToken

AnyAzureStaticCredential: TypeAlias = AzureAccessKey | AzureSasToken | AzureBearerToken


class AzureRefreshableCredential(Masked):
    """What a function that refreshes credentials returns: one of the kinds, with its expiry."""

    __slots__ = ()

    AccessKey: ClassVar[type[AzureExpiringAccessKey]]
    SasToken: ClassVar[type[AzureExpiringSasToken]]
    BearerToken: ClassVar[type[AzureExpiringBearerToken]]

    def __new__(cls, *arguments: object, **named: object) -> AzureRefreshableCredential:
        """Make one of the kinds."""
        if cls is AzureRefreshableCredential:
            raise TypeError(
                "AzureRefreshableCredential has no instances; use one of its nested classes"
            )
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class AzureExpiringAccessKey(AzureRefreshableCredential):
    """The key of a storage account."""

    _name = "AzureRefreshableCredential.AccessKey"

    key: str
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        check_expiry(self.expires_after)


@dataclass(frozen=True, slots=True, repr=False)
class AzureExpiringSasToken(AzureRefreshableCredential):
    """A shared access signature."""

    _name = "AzureRefreshableCredential.SasToken"

    token: str
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        check_expiry(self.expires_after)


@dataclass(frozen=True, slots=True, repr=False)
class AzureExpiringBearerToken(AzureRefreshableCredential):
    """A bearer token."""

    _name = "AzureRefreshableCredential.BearerToken"

    bearer: str
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        check_expiry(self.expires_after)


AzureRefreshableCredential.AccessKey = AzureExpiringAccessKey
AzureRefreshableCredential.SasToken = AzureExpiringSasToken
AzureRefreshableCredential.BearerToken = AzureExpiringBearerToken

AnyAzureRefreshableCredential: TypeAlias = (
    AzureExpiringAccessKey | AzureExpiringSasToken | AzureExpiringBearerToken
)


class AzureCredentials(Masked):
    """How requests are authorized: `FromEnv`, `Anonymous`, `Static` or `Refreshable`."""

    __slots__ = ()

    FromEnv: ClassVar[type[AzureFromEnv]]
    Anonymous: ClassVar[type[AzureAnonymous]]
    Static: ClassVar[type[AzureStatic]]
    Refreshable: ClassVar[type[AzureRefreshable]]

    def __new__(cls, *arguments: object, **named: object) -> AzureCredentials:
        """Make one of the kinds."""
        if cls is AzureCredentials:
            raise TypeError("AzureCredentials has no instances; use one of its nested classes")
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class AzureFromEnv(AzureCredentials):
    """Let the client find credentials: environment variables, managed identity."""

    _name = "AzureCredentials.FromEnv"


@dataclass(frozen=True, slots=True, repr=False)
class AzureAnonymous(AzureCredentials):
    """Send requests without credentials."""

    _name = "AzureCredentials.Anonymous"


@dataclass(frozen=True, slots=True, repr=False)
class AzureStatic(AzureCredentials):
    """Use credentials that stay as they are."""

    _name = "AzureCredentials.Static"

    credentials: AnyAzureStaticCredential


@dataclass(frozen=True, slots=True, repr=False)
class AzureRefreshable(AzureCredentials):
    """Use credentials that a function hands out, one after the other expires."""

    _name = "AzureCredentials.Refreshable"

    pickled_function: bytes
    current: AnyAzureRefreshableCredential | None = None

    def source(self) -> Source[AnyAzureRefreshableCredential]:
        """Return where this process gets the function's answers."""
        return source_of(self.pickled_function, (AzureRefreshableCredential,))  # type: ignore[arg-type]


AzureCredentials.FromEnv = AzureFromEnv
AzureCredentials.Anonymous = AzureAnonymous
AzureCredentials.Static = AzureStatic
AzureCredentials.Refreshable = AzureRefreshable

AnyAzureCredential: TypeAlias = AzureFromEnv | AzureAnonymous | AzureStatic | AzureRefreshable


def azure_refreshable_credentials(
    get_credentials: Callable[[], AnyAzureRefreshableCredential],
    scatter_initial_credentials: bool = False,
) -> AzureRefreshable:
    """Make credentials that a function hands out whenever the last ones are about to expire.

    Parameters
    ----------
    get_credentials
        Returns an `AzureRefreshableCredential`. It is pickled right here and travels with every
        pickle of what uses it; the copies in one process share its answers.
    scatter_initial_credentials
        Call the function now, and let pickles carry the answer, so that many workers that start
        at once need not ask. Those who can read such a pickle can read the credentials.
    """
    return AzureRefreshable(*pickled(get_credentials, call=scatter_initial_credentials))


def azure_static_credentials(
    *,
    access_key: str | None = None,
    sas_token: str | None = None,
    bearer_token: str | None = None,
) -> AnyAzureStaticCredential:
    """Make credentials that stay as they are, of exactly one of the arguments.

    Parameters
    ----------
    access_key
        Key of the storage account.
    sas_token
        A shared access signature, the query of a URL.
    bearer_token
        A token.

    Raises
    ------
    ValueError
        If none is given, or several.
    """
    if [access_key, sas_token, bearer_token].count(None) == 2:
        if access_key is not None:
            return AzureAccessKey(access_key)
        if sas_token is not None:
            return AzureSasToken(sas_token)
        if bearer_token is not None:
            return AzureBearerToken(bearer_token)
    raise ValueError("Conflicting arguments to azure_static_credentials function")


def azure_anonymous_credentials() -> AzureAnonymous:
    """Make credentials for requests without any."""
    return AzureAnonymous()


def azure_from_env_credentials() -> AzureFromEnv:
    """Make credentials that the client finds in the environment it runs in."""
    return AzureFromEnv()


def azure_credentials(
    *,
    access_key: str | None = None,
    sas_token: str | None = None,
    bearer_token: str | None = None,
    from_env: bool | None = None,
    anonymous: bool | None = None,
    get_credentials: Callable[[], AnyAzureRefreshableCredential] | None = None,
    scatter_initial_credentials: bool = False,
) -> AnyAzureCredential:
    """Pick the kind of Azure credentials that the given arguments ask for.

    Nothing at all means `AzureCredentials.FromEnv`, and `anonymous` prevails over everything.

    Parameters
    ----------
    access_key, sas_token, bearer_token
        Credentials that stay, one of them; see `azure_static_credentials`.
    from_env
        Whether the client looks for credentials in its environment.
    anonymous
        Whether requests go without credentials.
    get_credentials, scatter_initial_credentials
        A function that hands out credentials; see `azure_refreshable_credentials`.

    Raises
    ------
    ValueError
        If other kinds are mixed, or none is left.
    """
    if anonymous:
        return AzureAnonymous()
    has_static = any(value is not None for value in (access_key, sas_token, bearer_token))
    if has_static + (get_credentials is not None) + bool(from_env) <= 1:
        if get_credentials is not None:
            return azure_refreshable_credentials(get_credentials, scatter_initial_credentials)
        if has_static:
            return AzureStatic(
                azure_static_credentials(
                    access_key=access_key, sas_token=sas_token, bearer_token=bearer_token
                )
            )
        if from_env is None or from_env:
            return AzureFromEnv()
    raise ValueError("Conflicting arguments to azure_credentials function")
