"""The configuration inside the repo info object, and how it combines with others.

Stored is what somebody chose, never what a storage backend defaults to: files may be moved.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from icechunk.config import RepositoryConfig
from icechunk.config.serialize import from_dict, to_dict
from icechunk.format.layout import REPO
from icechunk.format.values import decode_flexbuffer, encode_flexbuffer
from icechunk.storage.base import Storage

__all__ = ["Choices", "chosen_for", "decode_config", "encode_config"]


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


def chosen_for(config: RepositoryConfig, storage: Storage) -> RepositoryConfig:
    """Leave out of a configuration what the storage it is to be stored in does by itself.

    Who changes a configuration that is in effect passes on the defaults of the storage as well.
    Other readers have others for the same kind of storage, which they need.
    """
    defaults = to_dict(RepositoryConfig(storage=storage.default_settings()))["storage"]
    values = to_dict(config)
    values["storage"] = _without(values["storage"], defaults)
    return from_dict(values, source="the configuration")


def _without(values: Any, defaults: Any) -> Any:
    if not isinstance(values, dict) or not isinstance(defaults, dict):
        return None if values == defaults else values
    left = {name: _without(value, defaults.get(name)) for name, value in values.items()}
    return None if all(value is None for value in left.values()) else left


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
