"""Manifest files: the chunk references of one array or several.

::

    Manifest -> arrays, sorted by node id -> refs, sorted by coordinates -> one ChunkRef table each

A `Manifest` keeps the decompressed bytes. One reference is found by bisecting the vector of
tables in place (`chunk_ref_search`); bulk work decodes an array's references to a `ChunkTable`
once. Icechunk spec, "Manifest files".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import MAX_RANK, Coords, frozen
from icechunk.chunks.columns import tidied
from icechunk.chunks.coords import is_sorted_unique
from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.table import ChunkTable
from icechunk.errors import ErrorKind, FormatError
from icechunk.format import flatbuf, locations, schema
from icechunk.format.chunk_ref_search import ChunkRefSearch
from icechunk.format.damage import Damage
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.locations import LocationCompression
from icechunk.format.payload import Payload

NO_COMPRESSION = 0
DICTIONARY_COMPRESSION = 1
"""Values of `Manifest.compression_algorithm`; the second is also what absence means."""


class _Row(NamedTuple):
    """Where the references of one array are."""

    number: int
    """Of its ArrayManifest."""
    start: int
    """Position of the first offset of its vector of references."""
    refs: int


class Manifest:
    """A decoded manifest file, asked by node id.

    Use `decode`. Node ids are 8 bytes. An instance may be shared between threads.
    """

    __slots__ = (
        "_arrays",
        "_buffer",
        "_dictionary",
        "_num_refs",
        "_rows",
        "_searches",
        "_tables",
        "id",
        "when_grown",
    )

    def __init__(self, buffer: flatbuf.Buffer) -> None:
        root = buffer.root(schema.MANIFEST)
        arrays, _ = root.tables("arrays")
        starts, counts = arrays.spans("refs")
        self.id: bytes = root.struct("id").tobytes()
        """The manifest's own id, 12 bytes."""
        self._buffer = buffer
        self._arrays = arrays
        self._rows = {
            node_id.tobytes(): _Row(*row)
            for node_id, *row in zip(
                arrays.struct("node_id"),
                range(len(arrays)),
                starts.tolist(),
                counts.tolist(),
                strict=True,
            )
        }
        if len(self._rows) != len(arrays):
            buffer.fail("Manifest.arrays", "an array is listed twice")
        algorithm = int(root.scalar("compression_algorithm")[0])
        dictionary = root.byte_strings("location_dictionary")[0]
        self._dictionary = dictionary if algorithm == DICTIONARY_COMPRESSION else b""
        self._num_refs = sum(row.refs for row in self._rows.values())
        self.when_grown: Callable[[], object] | None = None
        """Called after references were decoded and kept, for whoever keeps account of memory."""
        self._searches: dict[bytes, ChunkRefSearch] = {}
        self._tables: dict[bytes, ChunkTable] = {}

    @classmethod
    def decode(cls, data: bytes, key: str) -> Manifest:
        """Open a manifest file read from `key`; references are not looked at yet.

        Raises
        ------
        FormatError
            The file is not a manifest, or damaged.
        """
        return cls(flatbuf.Buffer(unwrap(data, FileKind.MANIFEST, key).payload, key))

    @property
    def key(self) -> str:
        """The file it came from."""
        return self._buffer.key

    @property
    def payload_size(self) -> int:
        """Bytes of the decompressed file, which are in memory as long as the manifest is."""
        return len(self._buffer.data)

    @property
    def nbytes(self) -> int:
        """Memory it takes now: the payload, decoded references, and what finds rows in them."""
        tables = list(self._tables.values())  # in one go: other threads decode
        return self.payload_size + sum(table.nbytes + 8 * len(table) for table in tables)

    @property
    def dictionary_size(self) -> int:
        """Bytes of the dictionary that opens compressed locations, 0 if there is none."""
        return len(self._dictionary)

    def num_compressed_locations(self) -> int:
        """Count the references of all arrays whose location is compressed."""
        refs, _ = self._arrays.tables("refs")
        return int(refs.present("compressed_location").sum())

    @property
    def node_ids(self) -> tuple[bytes, ...]:
        """Ids of the arrays that have references here."""
        return tuple(self._rows)

    def num_refs(self, node_id: bytes | None = None) -> int:
        """Count the references of one array, 0 if it is not here, or of all arrays."""
        if node_id is None:
            return self._num_refs
        return self._rows[node_id].refs if node_id in self._rows else 0

    def find(self, node_id: bytes, coords: tuple[int, ...]) -> ChunkRef | None:
        """Find the reference of one chunk, or None, in about 20 microseconds among a million.

        Raises
        ------
        FormatError
            A table on the way is damaged.
        """
        table = self._tables.get(node_id)
        if table is not None:
            return table.get(coords)
        search = self._searches.get(node_id)
        if search is None:
            row = self._rows.get(node_id)
            if row is None:
                return None
            search = self._searches[node_id] = ChunkRefSearch(
                self._buffer.data, self._buffer.key, row.start, row.refs, self._dictionary
            )
        return search.find(coords)

    def native_ids(self) -> npt.NDArray[np.uint8]:
        """Return the ids of all native chunks of all arrays, ``(k, 12)``, in no particular order.

        For who asks for nothing else: about 0.1 microseconds per reference, and nothing is kept.

        Raises
        ------
        FormatError
            A table on the way is damaged.
        """
        refs, _ = self._arrays.tables("refs")
        return np.asarray(refs.struct("chunk_id")[refs.present("chunk_id")])

    def table(self, node_id: bytes, rank: int | None = None) -> ChunkTable:
        """Decode all references of one array; kept for the next call.

        Parameters
        ----------
        node_id
            The array.
        rank
            Its number of dimensions, needed for the shape of an empty table only.

        Raises
        ------
        FormatError
            The references are damaged, unsorted, or of different ranks.
        """
        table = self._tables.get(node_id)
        if table is None:
            row = self._rows.get(node_id)
            if row is None or row.refs == 0:
                return ChunkTable.empty(rank or 0)
            refs, _ = self._arrays.take(np.array([row.number])).tables("refs")
            table = self._tables[node_id] = _decode_refs(refs, self._dictionary)
            if self.when_grown is not None:
                self.when_grown()
        return table


def _decode_refs(refs: flatbuf.Rows, dictionary: bytes) -> ChunkTable:
    n = len(refs)
    buffer = refs.buffer
    index = refs.vectors("index")
    rank = len(index[0])
    if len(index.values) != n * rank or not bool((index.counts == rank).all()):
        buffer.fail("ChunkRef.index", "references of one array differ in rank", Damage.RANK_WRONG)
    if rank > MAX_RANK:
        buffer.fail("ChunkRef.index", f"references have {rank} axes, more than {MAX_RANK}")
    coords = index.values.reshape(n, rank)
    if not is_sorted_unique(coords):
        return _without_repetitions(refs, coords, dictionary)

    # A reference with several payloads is what the first of these says; one with none is an error.
    is_native = refs.present("chunk_id")
    is_compressed = refs.present("compressed_location") & ~is_native
    is_virtual = (is_compressed | refs.present("location")) & ~is_native
    is_inline = refs.present("inline") & ~is_native & ~is_virtual
    kinds = np.zeros(n, np.uint8)
    kinds[is_native] = ChunkKind.NATIVE
    kinds[is_virtual] = ChunkKind.VIRTUAL
    kinds[is_inline] = ChunkKind.INLINE
    if not kinds.all():
        row = int(np.argmin(kinds))
        buffer.fail("ChunkRef", f"the reference to {tuple(coords[row].tolist())} refers to nothing")

    lengths, offsets = refs.scalar("length"), refs.scalar("offset")
    inline = etags = last_modified = place = None
    if is_inline.any():
        inline = _only(refs.byte_strings("inline"), is_inline)
        lengths = np.where(is_inline, inline.lengths.astype(np.uint64), lengths)
        offsets = np.where(is_inline, np.uint64(0), offsets)
    if is_virtual.any():
        place = _locations(refs, is_virtual, is_compressed, dictionary)
        etags = _only(refs.byte_strings("checksum_etag"), is_virtual)
        if not etags.is_utf8():
            buffer.fail("ChunkRef.checksum_etag", "text is not UTF-8")
        # With both checksums the entity tag counts.
        counts = is_virtual & (etags.lengths == 0)
        last_modified = frozen(
            np.where(counts, refs.scalar("checksum_last_modified"), np.uint32(0))
        )
    return tidied(
        ChunkTable(
            coords=frozen(coords),
            kinds=frozen(kinds),
            lengths=frozen(lengths),
            ids=frozen(refs.struct("chunk_id")) if is_native.any() else None,
            offsets=frozen(offsets),
            inline=inline,
            locations=place,
            etags=etags,
            last_modified=last_modified,
        )
    )


def _without_repetitions(refs: flatbuf.Rows, coords: Coords, dictionary: bytes) -> ChunkTable:
    """Decode references of which some are there several times over.

    The reference implementation up to 1.1 writes such manifests when an array is changed whose
    manifests were split in another way before. What is repeated there is the same every time.
    """
    what, problem = "ChunkRef.index", "references are not in ascending order of coordinates"
    unsorted = Damage.UNSORTED_REFERENCES
    starts = np.append(True, (coords[1:] != coords[:-1]).any(axis=1))
    first = np.flatnonzero(starts)
    if len(first) == len(coords) or not is_sorted_unique(coords[first]):
        refs.buffer.fail(what, problem, unsorted)
    last = np.append(first[1:], len(coords)) - 1
    several = last > first
    one, other = (
        manifest_payload(
            bytes(12), [(bytes(8), _decode_refs(refs.take(rows), dictionary))]
        ).to_memory()
        for rows in (first[several], last[several])
    )
    if one != other:
        refs.buffer.fail(what, f"{problem}: two of the same coordinates differ", unsorted)
    return _decode_refs(refs.take(first), dictionary)


def _locations(
    refs: flatbuf.Rows,
    is_virtual: npt.NDArray[np.bool_],
    is_compressed: npt.NDArray[np.bool_],
    dictionary: bytes,
) -> RaggedBytes:
    """Locations of the virtual rows, compressed or not, and empty strings for the rest."""
    what = f"{refs.buffer.key} is corrupt: ChunkRef.compressed_location"
    column = _only(refs.byte_strings("location"), is_virtual & ~is_compressed)
    if is_compressed.any():
        if not dictionary:
            refs.buffer.fail("ChunkRef.compressed_location", "the file has no dictionary for it")
        rows = np.flatnonzero(is_compressed)
        frames = refs.byte_strings("compressed_location").take(rows)
        opened = locations.decompress(frames, dictionary, what)
        if len(rows) == len(column):
            column = opened
        else:
            plain = np.flatnonzero(~is_compressed)
            order = np.empty(len(column), np.int64)
            order[plain] = np.arange(len(plain))
            order[rows] = np.arange(len(plain), len(column))
            column = RaggedBytes.concat([column.take(plain), opened]).take(order)
    if not column.is_utf8():
        refs.buffer.fail("ChunkRef.location", "text is not UTF-8")
    return column


def _only(column: RaggedBytes, rows: npt.NDArray[np.bool_]) -> RaggedBytes:
    """Blank the strings of all other rows."""
    if rows.all() or not column.lengths[~rows].any():
        return column
    kept = np.flatnonzero(rows)
    return column.take(kept).spread(kept, len(column))


def encode_manifest(
    id: bytes,
    arrays: Sequence[tuple[bytes, ChunkTable]],
    *,
    level: int | None = None,
    spec_version: int = 2,
    location_compression: LocationCompression | None = None,
) -> bytes:
    """Write a manifest file.

    Parameters
    ----------
    id
        Its id, 12 bytes.
    arrays
        Node id and references of each array, in any order; no table may hold deleted rows.
    level
        Zstd level of the file; None leaves the choice to `icechunk.format.envelope.wrap`.
    spec_version
        Version of the file: 1 never compresses locations.
    location_compression
        When to compress locations with a dictionary; None for never.

    Returns
    -------
    bytes
        The whole file.
    """
    payload = manifest_payload(
        id, arrays, spec_version=spec_version, location_compression=location_compression
    )
    return wrap(
        FileKind.MANIFEST,
        payload,
        level=level,
        spec_version=spec_version,
        has_similar_rows=all(table.inline is None for _, table in arrays),
    )


def manifest_payload(
    id: bytes,
    arrays: Sequence[tuple[bytes, ChunkTable]],
    *,
    spec_version: int = 2,
    location_compression: LocationCompression | None = None,
) -> Payload:
    """Lay out what `encode_manifest` compresses into a file; takes the same arguments."""
    ordered = sorted(arrays, key=lambda array: array[0])
    columns: dict[str, Any] = {"id": np.frombuffer(id, np.uint8)}
    refs, dictionary = _encode_refs(
        [table for _, table in ordered], location_compression if spec_version > 1 else None
    )
    columns["arrays"] = flatbuf.Children(
        [len(ordered)],
        flatbuf.Tables(
            len(ordered),
            {
                "node_id": np.frombuffer(b"".join(node for node, _ in ordered), np.uint8).reshape(
                    -1, 8
                ),
                "refs": flatbuf.Children([len(table) for _, table in ordered], refs),
            },
        ),
    )
    if dictionary is not None:
        columns["location_dictionary"] = [dictionary]
    elif spec_version > 1:
        columns["compression_algorithm"] = NO_COMPRESSION
    return flatbuf.lay_out(schema.MANIFEST, flatbuf.Tables(1, columns))


def _encode_refs(
    tables: Sequence[ChunkTable], compression: LocationCompression | None
) -> tuple[flatbuf.Tables, bytes | None]:
    """Columns of the references of all arrays end to end, and the location dictionary if any."""
    n = sum(map(len, tables))
    kinds = np.concatenate([table.kinds for table in tables]) if tables else np.zeros(0, np.uint8)
    if not kinds.all():
        raise FormatError(
            "a manifest cannot hold deleted references; drop them first", ErrorKind.SERIALIZATION
        )
    is_native = kinds == ChunkKind.NATIVE
    is_virtual = kinds == ChunkKind.VIRTUAL
    is_inline = kinds == ChunkKind.INLINE
    columns: dict[str, Any] = {"index": flatbuf.stack_vectors([table.coords for table in tables])}
    if is_inline.any():
        columns["inline"] = flatbuf.Maybe(is_inline, _strings(tables, "inline"))
    if not is_inline.all():
        columns["length"] = flatbuf.Maybe(~is_inline, _numbers(tables, "lengths", np.uint64))
        if any(table.offsets is not None for table in tables):
            columns["offset"] = flatbuf.Maybe(~is_inline, _numbers(tables, "offsets", np.uint64))
    if is_native.any():
        columns["chunk_id"] = flatbuf.Maybe(is_native, _numbers(tables, "ids", np.uint8, 12))
    dictionary = None
    if is_virtual.any():
        place = _strings(tables, "locations")
        plain = is_virtual
        if compression is not None and n >= compression.min_num_chunks:
            rows = np.flatnonzero(is_virtual)
            packed = locations.compress(place.take(rows), compression)
            if packed is not None:
                dictionary = packed.dictionary
                is_packed = np.zeros(n, np.bool_)
                is_packed[rows[packed.is_compressed]] = True
                plain = is_virtual & ~is_packed
                columns["compressed_location"] = flatbuf.Maybe(
                    is_packed, packed.frames.spread(rows, n)
                )
        if plain.any():
            columns["location"] = flatbuf.Maybe(plain, place)
        if any(table.etags is not None for table in tables):
            etags = _strings(tables, "etags")
            columns["checksum_etag"] = flatbuf.Maybe(is_virtual & (etags.lengths > 0), etags)
        if any(table.last_modified is not None for table in tables):
            seconds = _numbers(tables, "last_modified", np.uint32)
            columns["checksum_last_modified"] = flatbuf.Maybe(is_virtual & (seconds > 0), seconds)
    return flatbuf.Tables(n, columns), dictionary


def _strings(tables: Sequence[ChunkTable], name: str) -> RaggedBytes:
    columns = [getattr(table, name) or RaggedBytes.empty(len(table)) for table in tables]
    return columns[0] if len(columns) == 1 else RaggedBytes.concat(columns)


def _numbers(
    tables: Sequence[ChunkTable], name: str, dtype: npt.DTypeLike, *shape: int
) -> npt.NDArray[Any]:
    columns = []
    for table in tables:
        column = getattr(table, name)
        columns.append(np.zeros((len(table), *shape), dtype) if column is None else column)
    return columns[0] if len(columns) == 1 else np.concatenate(columns)
