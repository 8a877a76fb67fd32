"""Columns of flatbuffer tables in memory: what the writer takes, and in part what the reader gives.

Tables of one type are a mapping from field names to columns with one entry per table. Byte strings
are `RaggedBytes`; the types here are the columns numpy and that have no name for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from icechunk.chunks.ragged import RaggedBytes

Positions: TypeAlias = NDArray[np.int64]
"""Where things are in a payload, or how many there are."""

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Vectors of many rows end to end: row i is `values[offsets[i]:offsets[i + 1]]`."""

    offsets: Positions  # (n + 1,)
    values: NDArray[Any]  # (total, *element shape)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def counts(self) -> Positions:
        """Number of elements of each row."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Tables:
    """`count` tables of one type, as columns to be written.

    A column's shape follows the kind of its field:

    - scalar: (n,) numbers, or one number for all;
    - struct: (n, size) bytes, or (n,) records;
    - string and byte vector: `RaggedBytes`, or a list of `bytes | str | None`;
    - other vectors: `Ragged`, or an array whose second axis is the vector;
    - child table: `Tables` of n rows; vector of tables: `Children`;
    - vector of strings: `Children` of byte strings; union: `Union`.

    A column is wrapped in `Maybe` when some rows lack the field. A field without a column, or whose
    column is None, is left out of all rows.

    Examples
    --------
    >>> items = Tables(2, {"name": ["a", "b"], "value": [b"1", b"2"]})   # doctest: +SKIP
    >>> root = Tables(1, {"id": ids, "metadata": Children([2], items)})   # doctest: +SKIP
    >>> payload = encode(schema.SNAPSHOT, root)                           # doctest: +SKIP
    """

    count: int
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Children:
    """Vectors of child tables (or strings): `counts[i]` of `items` belong to row i, in order."""

    counts: Sequence[int] | NDArray[Any]
    items: Tables | RaggedBytes | Sequence[bytes | str]


@dataclass(frozen=True, slots=True)
class Union:
    """A union column: each row's type, 0 for none, and for each type the tables of its rows."""

    types: Sequence[int] | NDArray[Any]
    members: Mapping[int, Tables]


@dataclass(frozen=True, slots=True)
class Maybe:
    """A column of n rows of which only those marked present are written.

    Child tables are given for the rows marked present only.
    """

    present: Mask
    column: Any


def stack_vectors(tables: Sequence[NDArray[Any]]) -> Ragged | NDArray[Any]:
    """Make one vector column of the rows of several (n, width) arrays, whose widths may differ."""
    if len(tables) == 1:
        return tables[0]
    offsets = np.zeros(sum(map(len, tables)) + 1, np.int64)
    if not tables:
        return Ragged(offsets, np.zeros(0, np.uint32))
    widths = [np.full(len(table), table.shape[1]) for table in tables]
    np.cumsum(np.concatenate(widths), out=offsets[1:])
    return Ragged(offsets, np.concatenate([table.reshape(-1) for table in tables]))
