"""Flatbuffers as columns: the one import for codecs of the metadata files.

Reading: ``Buffer(payload, key).root(schema.SNAPSHOT)`` gives `Rows`, see there. Writing:
``encode(schema.SNAPSHOT, Tables(1, {...}))``, see `Tables`; `lay_out` for what may be large. Both
directions are driven by `icechunk.format.schema`.
"""

from icechunk.format.flatbuf_columns import (
    Children,
    Maybe,
    Ragged,
    Tables,
    Union,
    stack_vectors,
)
from icechunk.format.flatbuf_read import Buffer, Rows
from icechunk.format.flatbuf_write import encode, lay_out

__all__ = [
    "Buffer",
    "Children",
    "Maybe",
    "Ragged",
    "Rows",
    "Tables",
    "Union",
    "encode",
    "lay_out",
    "stack_vectors",
]
