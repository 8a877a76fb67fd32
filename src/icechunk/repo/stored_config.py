"""The configuration inside the repo info object, and how it combines with others.

Stored is what somebody chose, never what a storage backend defaults to: files may be moved.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from icechunk.config import RepositoryConfig
from icechunk.config.serialize import from_dict, to_dict
from icechunk.format.layout import REPO
from icechunk.format.values import decode_flexbuffer, encode_flexbuffer
from icechunk.storage.base import Storage

__all__ = ["Choices", "decode_config", "encode_config"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for a repository, by those who stored it and by who opened it."""

    config: RepositoryConfig

    @classmethod
    def of(cls, stored: RepositoryConfig | None, passed: RepositoryConfig | None) -> Choices:
        """Lay what was passed over what is stored."""
        base = RepositoryConfig() if stored is None else stored
        return cls(copy.deepcopy(base) if passed is None else base.merge(passed))

    def in_effect(self, storage: Storage) -> RepositoryConfig:
        """Lay the choices over the defaults of the storage the repository is in."""
        return RepositoryConfig(storage=storage.default_settings()).merge(self.config)


def encode_config(config: RepositoryConfig) -> bytes:
    """Write a configuration the way the repo info object holds it."""
    return encode_flexbuffer(to_dict(config))


def decode_config(data: bytes | None) -> RepositoryConfig | None:
    """Read the stored configuration; None when nothing is stored.

    Raises
    ------
    FormatError
        Of kind ``deserialization`` or ``config-deserialization`` for what is no configuration.
    """
    if data is None:
        return None
    what = f"{REPO}: configuration"
    return from_dict(decode_flexbuffer(data, what), source=what)
