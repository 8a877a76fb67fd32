"""Flatbuffers as columns: the one import for codecs of the metadata files.

Reading: ``Buffer(payload, key).root(schema.SNAPSHOT)`` gives `Rows`, see there. Writing:
``encode(schema.SNAPSHOT, Tables(1, {...}))``, see `Tables`. Both are driven by
`icechunk.format.schema`.
"""

from icechunk.format.flatbuf_read import Buffer, Ragged, Rows
from icechunk.format.flatbuf_write import Children, Maybe, Tables, Union, encode, stack_vectors

__all__ = [
    "Buffer",
    "Children",
    "Maybe",
    "Ragged",
    "Rows",
    "Tables",
    "Union",
    "encode",
    "stack_vectors",
]
