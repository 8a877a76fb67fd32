"""A store that takes conditions and does not care, to check that it is found out."""

from __future__ import annotations

from icechunk.config import StorageSettings
from icechunk.storage.base import BytesLike, Storage, Version
from icechunk.testing.wrapper import StorageWrapper


class UnconditionalStorage(StorageWrapper):
    """Carry out conditional writes whatever the condition, as some servers do.

    Parameters
    ----------
    inner
        The storage that does the work.
    ignore_create, ignore_update
        Which conditions are ignored: that there is no object, that it is in a certain state.
    settings
        Say, as for any object store, whether conditions are relied on.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        ignore_create: bool = True,
        ignore_update: bool = True,
        settings: StorageSettings | None = None,
    ) -> None:
        super().__init__(inner)
        self.is_local = False  # storages of this package on this machine are not asked
        self.ignore_create = ignore_create
        self.ignore_update = ignore_update
        self.settings = settings or StorageSettings()

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:
        """Replace the object, though it may be in another state than the expected one."""
        self._before("put_if", key)
        if self.ignore_create if expected is None else self.ignore_update:
            self.inner.put(key, data)
            version = self.inner.get_versioned(key)[1]
        else:
            version = self.inner.put_if(key, data, expected)
        self._after("put_if", key)
        return version

    def refuses(self, key: str, data: BytesLike, expected: Version | None) -> bool:
        """Tell whether a conditional write is refused, as `put_if` does it here."""
        return Storage.refuses(self, key, data, expected)

    @property
    def creates_conditionally(self) -> bool:  # noqa: D102
        return self.settings.unsafe_use_conditional_create is not False

    @property
    def updates_conditionally(self) -> bool:  # noqa: D102
        return self.settings.unsafe_use_conditional_update is not False

    def configured(self, settings: StorageSettings | None) -> Storage:
        """Return this storage under other settings."""
        if settings is None:
            return self
        return UnconditionalStorage(
            self.inner,
            ignore_create=self.ignore_create,
            ignore_update=self.ignore_update,
            settings=self.settings.merge(settings),
        )

    def identity(self) -> tuple[str, ...]:
        """Name what is wrapped: all such wrappers of one storage are alike."""
        return (type(self).__name__, repr(self.settings), *self.inner.identity())
