"""What the storages of all providers have in common: they are values that clients are made from.

A storage is where (a target), as whom (credentials), how requests are sent, and how hard one
tries. Those four and the attribution are all that pickles hold and identities are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from icechunk.config import StorageSettings
from icechunk.errors import ErrorKind, ReadOnlyError
from icechunk.storage.attribution import Attribution
from icechunk.storage.defaults import cloud_settings
from icechunk.storage.masked import Masked, secrets_of
from icechunk.storage.object_store import ObjectStorage
from icechunk.storage.sending import Pairs, Sending, client_options, retry_config
from icechunk.storage.tuning import Tuning

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from icechunk.storage.base import BytesLike, Version

__all__ = ["CloudStorage", "Target"]


class Target(Protocol):
    """Where the objects are."""

    @property
    def prefix(self) -> str:
        """Where in the bucket the repository lives; empty for its root."""

    @property
    def config(self) -> Pairs:
        """Further settings of obstore's store; may hold secrets."""

    @property
    def read_only(self) -> bool:
        """Whether nothing is ever written there."""

    @property
    def keeps_metadata(self) -> bool:
        """Whether objects can carry user metadata."""

    def names(self) -> tuple[str, ...]:
        """Name the place, for identities."""


TargetT = TypeVar("TargetT", bound=Target)
CredentialsT = TypeVar("CredentialsT", bound=Masked | None)


class CloudStorage(ObjectStorage, Generic[TargetT, CredentialsT]):
    """Keep objects at a target, below its prefix.

    Parameters
    ----------
    target
        Where they are.
    credentials
        As whom requests are sent. Part of pickles.
    sending
        Headers, timeouts and other options of the client.
    tuning
        Retries, parallelism and storage classes.
    attribution
        On whose behalf requests are sent.
    """

    _scheme: ClassVar[str]

    def __init__(
        self,
        target: TargetT,
        credentials: CredentialsT,
        sending: Sending,
        tuning: Tuning | None = None,
        attribution: Attribution | None = None,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._sending = sending
        self._attribution = attribution
        super().__init__(Tuning.of(self.default_settings()) if tuning is None else tuning)
        self.can_write = not target.read_only

    @property
    def prefix_is_empty(self) -> bool:
        """Whether this is the root of the bucket."""
        return not self._target.prefix

    def default_settings(self) -> StorageSettings:
        """Return the settings of an object store behind a network."""
        settings = cloud_settings()
        if not self._target.keeps_metadata:
            settings.unsafe_use_metadata = False
        return settings

    def configured(self, settings: StorageSettings | None) -> Self:
        """Return this storage under other settings; None leaves it as it is."""
        if settings is None:
            return self
        tuning = Tuning.of(self.default_settings().merge(settings))
        return self if tuning == self._tuning else self._with(tuning, self._attribution)

    def attributed(self, attribution: Attribution) -> Self:
        """Return this storage with its requests attributed to somebody."""
        return self._with(self._tuning, attribution)

    def _with(self, tuning: Tuning, attribution: Attribution | None) -> Self:
        return type(self)(self._target, self._credentials, self._sending, tuning, attribution)

    def identity(self) -> tuple[str, ...]:
        """Name the place, and a digest of everything else, credentials included."""
        rest = repr(
            (
                self._target,
                _secret_facts(self._credentials),
                self._sending,
                self._tuning,
                self._attribution,
            )
        )
        digest = hashlib.blake2b(rest.encode(), digest_size=16).hexdigest()
        return (self._scheme, *self._target.names(), digest)

    def __reduce__(self) -> tuple[object, ...]:
        state = (self._target, self._credentials, self._sending, self._tuning, self._attribution)
        return (type(self), state)

    def _place(self) -> str:
        return f"{self._scheme}://{'/'.join(filter(None, self._target.names()))}"

    def _secrets(self) -> Iterable[str]:
        yield from self._sending.secrets()
        for name, value in self._target.config:
            if any(word in name for word in ("key", "token", "secret", "password")):
                yield value
        if self._credentials is not None:
            yield from secrets_of(self._credentials)

    def _client_options(self, *, writing: bool) -> ClientConfig:
        return client_options(self._sending, self._tuning, self._attribution, writing=writing)

    def _retry_config(self) -> RetryConfig:
        return retry_config(self._tuning)

    # Writing, refused where the target is only read.

    def _refuse_writing(self) -> None:
        if self._target.read_only:
            raise ReadOnlyError(
                f"cannot write to {self._place()}: this storage is read-only",
                ErrorKind.READ_ONLY_STORAGE,
            )

    def put(self, key: str, data: BytesLike) -> None:  # noqa: D102  (as inherited)
        self._refuse_writing()
        super().put(key, data)

    def put_new(self, key: str, data: BytesLike) -> None:  # noqa: D102
        self._refuse_writing()
        super().put_new(key, data)

    async def put_new_async(self, key: str, data: BytesLike) -> None:  # noqa: D102
        self._refuse_writing()
        await super().put_new_async(key, data)

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:  # noqa: D102
        self._refuse_writing()
        return super().put_if(key, data, expected)

    def copy(self, source: str, target: str) -> None:  # noqa: D102
        self._refuse_writing()
        super().copy(source, target)

    def delete(self, keys: Iterable[str]) -> None:  # noqa: D102
        self._refuse_writing()
        super().delete(keys)


def _secret_facts(credentials: Masked | None) -> Any:
    """Everything that tells two credentials apart, secrets included: only for hashing."""
    if credentials is None:
        return None
    if hasattr(credentials, "pickled_function"):
        return type(credentials).__name__, credentials.pickled_function
    return credentials._name, list(secrets_of(credentials)), repr(credentials)
