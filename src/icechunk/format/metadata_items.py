"""Metadata as files hold it: a vector of items, each a name and an encoded value.

Shared by snapshot files and the repo info file. Icechunk spec, "Metadata".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icechunk.format.flatbuf import Children, Rows, Tables
from icechunk.format.values import decode_value, encode_value

__all__ = ["metadata_of", "metadata_to"]


def metadata_of(root: Rows, spec_version: int) -> dict[str, Any]:
    """Read the metadata of a root table; absent metadata is empty."""
    items, _ = root.tables("metadata")
    key = root.buffer.key
    return {
        str(name): decode_value(value, spec_version, f"{key}: metadata {name!r}")
        for name, value in zip(items.texts("name"), items.byte_strings("value"), strict=True)
    }


def metadata_to(metadata: Mapping[str, Any], spec_version: int) -> Children:
    """Lay out metadata as the column of a root table, sorted by name as readers expect."""
    names = sorted(metadata)
    values = [encode_value(metadata[name], spec_version) for name in names]
    return Children([len(names)], Tables(len(names), {"name": names, "value": values}))
