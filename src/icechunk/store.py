"""The Zarr store on a session.

A thin adapter: Zarr's keys and byte ranges on one side, the session's workspace on the other.
Memory and local disks answer in microseconds, so for them the coroutines call the synchronous code
directly and Zarr may call that code itself (its synchronous store protocol). For object stores the
chunk path awaits the transfer, and only a missing manifest costs a hop to a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import numpy as np
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import SyncMixin

from icechunk._display import Block, Shown
from icechunk._iterators import AsyncCloseableIterator
from icechunk._threads import in_thread
from icechunk.changes.batch import Part, Transfer, plan_transfers
from icechunk.changes.listing import ChunkArrays, array_batches, require_batch_size
from icechunk.changes.view import NodeState
from icechunk.changes.virtual_refs import (
    VirtualRefs,
    refs_of_arrays,
    refs_of_specs,
    seconds_of,
)
from icechunk.changes.workspace import (
    Coords,
    Workspace,
    inline_ref,
    native_ref,
    writable_array,
)
from icechunk.chunks import ChunkRef, ChunkTable, starts_with
from icechunk.errors import (
    ErrorKind,
    IcechunkError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    SessionStateError,
    operation,
)
from icechunk.format.paths import normalize
from icechunk.keys import (
    METADATA_NAME,
    ChunkKey,
    MetadataKey,
    chunk_key_prefix,
    chunk_prefix,
    metadata_key,
    node_path,
    parse_key,
    split_chunk_key,
)
from icechunk.session import Session
from icechunk.storage.ranges import MAX_GAP, MAX_TOGETHER
from icechunk.virtual import VirtualChunkSpec

Result = TypeVar("Result")

# Named here because the store has a method called list.
_FoundValues: TypeAlias = list[bytes | ChunkRef | None]
_Chunks: TypeAlias = list[tuple[int, str, Coords]]

LOCAL_GAP: Final = 16 * 1024
"""Where bytes come from memory or a disk, skipping more than this costs less than reading it."""


class MissingValueError(NodeNotFoundError, FileNotFoundError):
    """No value for a key, in the type that Zarr's store contract names."""

    def __new__(cls, *args: object) -> Self:
        """Make the object as `OSError` wants it; the other base would not, and comes first."""
        return FileNotFoundError.__new__(cls, *args)


class IcechunkStore(Shown, Store, SyncMixin):
    """A Zarr v3 store on an Icechunk session.

    Obtained as `Session.store`; cheap, and all stores of one session share its state. Values are
    kept byte for byte. Keys must be those of Zarr v3 groups and arrays with the ``default`` chunk
    key encoding; others are refused.

    Parameters
    ----------
    session
        The session to read and write.
    read_only
        Refuse writes through this store; defaults to the session's own state.
    """

    def __init__(self, session: Session, read_only: bool | None = None) -> None:
        super().__init__(read_only=session.read_only if read_only is None else read_only)
        self._session = session

    # --- what it is ----------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session (or fork) that the store works on."""
        return self._session

    @property
    def _workspace(self) -> Workspace:
        return self._session._workspace

    @property
    def _supports_sync_io(self) -> bool:
        """Zarr asks whether to call the synchronous methods from its own threads."""
        return self._reads_at_once

    @property
    def _reads_at_once(self) -> bool:
        """Whether the bytes of any chunk come in microseconds, those of virtual chunks too."""
        context = self._workspace.context
        return context.storage.is_local and context.virtual.is_local

    @property
    def supports_writes(self) -> bool:
        """Stores can write, if their session can."""
        return True

    @property
    def supports_deletes(self) -> bool:
        """Stores can delete, if their session can."""
        return True

    @property
    def supports_listing(self) -> bool:
        """Stores can list."""
        return True

    @property
    def supports_partial_writes(self) -> Literal[False]:
        """Chunks are written whole."""
        return False

    @property
    def supports_consolidated_metadata(self) -> bool:
        """Snapshots hold all metadata in one object already."""
        return False

    def with_read_only(self, read_only: bool = False) -> IcechunkStore:
        """Return a store on the same session that does or does not refuse writes itself."""
        return type(self)(self._session, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IcechunkStore) and self._session == other._session

    __hash__ = None  # type: ignore[assignment]

    def _block(self) -> Block:
        session = self._session
        return Block.of(
            "icechunk.IcechunkStore",
            {
                "read_only": self.read_only,
                "snapshot_id": session.snapshot_id,
                "branch": session.branch,
            },
        )

    def __str__(self) -> str:
        return f"icechunk://{self._session.snapshot_id}"  # part of the texts of Zarr's arrays

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._session, self.read_only, self._is_open)

    # --- reading -------------------------------------------------------------------------------

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the value of a key or None, without an event loop."""
        if prototype is None:
            prototype = default_buffer_prototype()
        try:
            found = self._find(key)
            if found is None:
                return None
            if isinstance(found, bytes):
                data = _slice(found, byte_range)
            else:
                data = self._workspace.read(found, *_span(found.length, byte_range, "chunk"))
        except IcechunkError as error:
            error.add_context("get", key=key)
            raise
        return prototype.buffer.from_bytes(data)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the value of a key, None when there is none.

        Raises
        ------
        InvalidInputError
            Kind ``invalid-key``, or ``invalid-byte-range`` for a range beyond the value.
        """
        workspace = self._workspace
        if self._reads_at_once:
            return self.get_sync(key, prototype=prototype, byte_range=byte_range)
        if prototype is None:
            prototype = default_buffer_prototype()
        try:
            found = await self._find_async(key)
            if found is None:
                return None
            if isinstance(found, bytes):
                data = _slice(found, byte_range)
            else:
                span = _span(found.length, byte_range, "chunk")
                data = await workspace.read_async(found, *span)
        except IcechunkError as error:
            error.add_context("get", key=key)
            raise
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return many values or parts of values, in order, None where there is nothing.

        The keys are looked up together, going to each manifest once, and parts of one object that
        lie near each other are fetched together.

        Raises
        ------
        InvalidInputError
            As `get` does, for any of the keys; then nothing is fetched.
        """
        requests = list(key_ranges)
        found = await self._find_many([key for key, _ in requests])
        values: list[bytes | None] = [None] * len(requests)
        parts: list[Part] = []
        for position, ((key, byte_range), value) in enumerate(zip(requests, found, strict=True)):
            with operation("get", key=key):
                if isinstance(value, bytes):
                    values[position] = _slice(value, byte_range)
                elif value is not None:
                    start, stop = _span(value.length, byte_range, "chunk")
                    if value.inline is not None:
                        values[position] = value.inline[start:stop]
                    else:
                        parts.append(Part(position, value, start, stop))
        workspace = self._workspace
        keys = [key for key, _ in requests]
        if self._reads_at_once:
            for group in self._transfer(parts, keys):
                _place(group, values)
        else:
            async for group in self._transfer_async(
                parts, keys, at_once=workspace.partial_values_at_once
            ):
                _place(group, values)
        make = prototype.buffer.from_bytes
        return [None if value is None else make(value) for value in values]

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        max_concurrency: int = 10,
        max_gap_bytes: int = MAX_GAP,
        max_coalesced_bytes: int = MAX_TOGETHER,
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Yield many parts of one value, in groups that were fetched together.

        Zarr 3.4 reads sharded arrays through this. The key is looked up once.

        Parameters
        ----------
        key, byte_ranges, prototype
            As for `get`.
        max_concurrency
            Fetches under way at once.
        max_gap_bytes
            Ranges so far apart are still fetched together.
        max_coalesced_bytes
            Most bytes of one such fetch.

        Raises
        ------
        BaseExceptionGroup
            Of the error that ended it; a `FileNotFoundError` when there is no value.
        """
        if not byte_ranges:
            return
        try:
            parts, done = self._parts(key, await self._find_async(key), byte_ranges)
            make = prototype.buffer.from_bytes
            if done:
                yield [(position, make(data)) for position, data in done]
            keys = [key] * len(byte_ranges)
            limits = {"max_gap": max_gap_bytes, "max_together": max_coalesced_bytes}
            if self._reads_at_once:
                for group in self._transfer(parts, keys, **limits):
                    yield [(position, make(data)) for position, data in group]
                return
            async for group in self._transfer_async(parts, keys, at_once=max_concurrency, **limits):
                yield [(position, make(data)) for position, data in group]
        except Exception as error:
            raise BaseExceptionGroup(f"cannot read ranges of `{key}`", [error]) from None

    def get_ranges_sync(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        max_gap_bytes: int = MAX_GAP,
        max_coalesced_bytes: int = MAX_TOGETHER,
    ) -> Sequence[tuple[int, Buffer | None]]:
        """Do as `get_ranges` does, without an event loop, and return everything at once."""
        try:
            parts, done = (
                self._parts(key, self._find(key), byte_ranges) if byte_ranges else ([], [])
            )
            transferred = self._transfer(
                parts,
                [key] * len(byte_ranges),
                max_gap=max_gap_bytes,
                max_together=max_coalesced_bytes,
            )
            for group in transferred:
                done.extend(group)
        except Exception as error:
            raise BaseExceptionGroup(f"cannot read ranges of `{key}`", [error]) from None
        make = prototype.buffer.from_bytes
        return [(position, make(data)) for position, data in done]

    def _parts(
        self, key: str, found: bytes | ChunkRef | None, byte_ranges: Sequence[ByteRequest | None]
    ) -> tuple[list[Part], list[tuple[int, bytes]]]:
        """Split the wanted ranges of a value into those to fetch and those at hand."""
        if found is None:
            raise MissingValueError(f"no value for key `{key}`", ErrorKind.KEY_NOT_FOUND)
        with operation("get", key=key):
            if isinstance(found, bytes):
                return [], [(i, _slice(found, wanted)) for i, wanted in enumerate(byte_ranges)]
            spans = [_span(found.length, wanted, "chunk") for wanted in byte_ranges]
        if (inline := found.inline) is not None:
            return [], [(i, inline[start:stop]) for i, (start, stop) in enumerate(spans)]
        return [Part(i, found, start, stop) for i, (start, stop) in enumerate(spans)], []

    def _transfer(
        self, parts: Iterable[Part], keys: Sequence[str], **limits: int
    ) -> Iterator[list[tuple[int, bytes]]]:
        """Fetch parts of chunks one transfer after the other; `keys` by position, for errors."""
        if self._reads_at_once:
            limits["max_gap"] = min(limits.get("max_gap", LOCAL_GAP), LOCAL_GAP)
        for transfer in plan_transfers(parts, **limits):
            with operation("get", key=keys[transfer.cuts[0][0]]):
                data = self._workspace.read(transfer.ref, transfer.start, transfer.stop)
            yield list(transfer.cut(data))

    async def _transfer_async(
        self, parts: Iterable[Part], keys: Sequence[str], *, at_once: int, **limits: int
    ) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Do as `_transfer` does, several at once, in the order in which they are done."""
        workspace = self._workspace
        limit = asyncio.Semaphore(max(1, at_once))

        async def fetch(transfer: Transfer) -> list[tuple[int, bytes]]:
            async with limit:
                with operation("get", key=keys[transfer.cuts[0][0]]):
                    data = await workspace.read_async(transfer.ref, transfer.start, transfer.stop)
            return list(transfer.cut(data))

        tasks = [asyncio.ensure_future(fetch(one)) for one in plan_transfers(parts, **limits)]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for pending in tasks:
                pending.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def exists(self, key: str) -> bool:
        """Whether a node or a chunk reference exists; the chunk's object is not looked at."""
        return await self._find_async(key) is not None

    async def getsize(self, key: str) -> int:
        """Size of a value in bytes.

        Raises
        ------
        NodeNotFoundError
            Kind ``key-not-found``: there is no value. Also a `FileNotFoundError`, as Zarr asks.
        """
        found = await self._find_async(key)
        if found is None:
            raise MissingValueError(f"no value for key `{key}`", ErrorKind.KEY_NOT_FOUND)
        return len(found) if isinstance(found, bytes) else found.length

    async def getsize_prefix(self, prefix: str) -> int:
        """Total size of all values below a prefix, in bytes."""
        return await self._in_thread(lambda: self._size_below(prefix))

    def _find(self, key: str) -> bytes | ChunkRef | None:
        """Return a document's bytes or a chunk's reference."""
        workspace = self._workspace
        chunk = split_chunk_key(key)
        if chunk is not None and _is_plain(key):
            return workspace.locate("/" + chunk[0], chunk[1])
        match parse_key(key):
            case MetadataKey(path):
                node = workspace.nodes.find(path)
                return None if node is None else node.user_data
            case ChunkKey(path, coords):
                return workspace.locate(path, coords)
        return None

    # --- writing -------------------------------------------------------------------------------

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a value without an event loop."""
        self._check_value(value)
        self._check_session()
        chunk = split_chunk_key(key)
        if chunk is not None and _is_plain(key):
            self._workspace.write_chunk("/" + chunk[0], chunk[1], _bytes_of(value))
            return
        match parse_key(key):
            case MetadataKey(path):
                self._workspace.put_document(path, value.to_bytes())
            case ChunkKey(path, coords):
                self._workspace.write_chunk(path, coords, _bytes_of(value))
            case _:
                raise _no_v2(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value: a node's document, or a chunk.

        A chunk of up to ``inline_chunk_threshold_bytes`` is kept with the session's edits; a larger
        one goes to storage now, as an object that nothing refers to before the commit.

        Raises
        ------
        ReadOnlyError
            Kind ``read-only-store``.
        InvalidInputError
            Kinds ``invalid-key``, ``bad-metadata``, ``invalid-chunk-index``, ``not-an-array``,
            ``zero-length-chunk``.
        NodeNotFoundError
            A chunk of an array that does not exist.
        AlreadyExistsError
            An array document where a group exists, or the reverse.
        """
        workspace = self._workspace
        if workspace.context.storage.is_local:
            self.set_sync(key, value)
            return
        self._check_value(value)
        self._check_session()
        await self._load()
        parsed = parse_key(key)
        if not isinstance(parsed, ChunkKey):
            self.set_sync(key, value)
            return
        data = _bytes_of(value)
        nodes = workspace.nodes
        node = writable_array(nodes, parsed.path, parsed.coords, data.nbytes)
        if data.nbytes <= workspace.inline_threshold:
            ref = inline_ref(data)
        else:
            ref = native_ref(await workspace.put_chunk_async(data), data.nbytes)
        workspace.record(node, parsed.coords, ref, nodes)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value unless the key has one."""
        self._check_session()
        if not await self.exists(key):
            await self.set(key, value)

    def delete_sync(self, key: str) -> None:
        """Delete a value without an event loop."""
        self._check_session(ErrorKind.READ_ONLY_SESSION)
        match parse_key(key):
            case MetadataKey(path):
                self._workspace.nodes.delete(path)
            case ChunkKey(path, coords):
                self._workspace.delete_chunk(path, coords)

    def set_virtual_ref(
        self,
        key: str,
        location: str,
        *,
        offset: int,
        length: int,
        checksum: str | datetime | None = None,
        validate_container: bool = True,
    ) -> None:
        """Have a chunk be a range of bytes of some object outside the repository.

        The object is not looked at before the chunk is read.

        Parameters
        ----------
        key
            Key of the chunk, as in ``array/c/0/1``.
        location
            URL of the object, or ``vcc://name/...`` relative to a container.
        offset, length
            The range of bytes.
        checksum
            What the object must still be when it is read: its entity tag; or a time, with a time
            zone, after which it was not modified. Kept in whole seconds.
        validate_container
            Whether to refuse a location that no virtual chunk container is responsible for.

        Raises
        ------
        InvalidInputError
            Kind ``no-container-for-virtual-chunk``, ``invalid-virtual-ref``, ``invalid-key``,
            ``invalid-chunk-index``, ``zero-length-chunk``, ``not-an-array``.
        NodeNotFoundError
            There is no such array.
        SessionStateError
            Kind ``not-allowed``: the key is one of a document.
        ReadOnlyError
            Kind ``read-only-store``.
        """
        self._check_session()
        match parse_key(key):
            case ChunkKey(path, coords):
                chunk = VirtualChunkSpec(coords, location, offset, length, *_checksums(checksum))
            case MetadataKey():
                raise SessionStateError(
                    f"this operation is not allowed: `{key}` is the key of a document, which `set` "
                    "writes",
                    ErrorKind.NOT_ALLOWED,
                )
            case _:
                raise _no_v2(key)
        with operation("set_virtual_ref", key=key):
            skipped = self._put_virtual(
                path, lambda rank: refs_of_specs([chunk], rank), validate=validate_container
            )
            if skipped:
                raise InvalidInputError(
                    f"invalid chunk location `{location}`: no virtual chunk container is "
                    "responsible for it; add one to the configuration of the repository",
                    ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
                )

    set_virtual_ref_async = in_thread(set_virtual_ref)

    def set_virtual_refs(
        self,
        array_path: str,
        chunks: Sequence[VirtualChunkSpec],
        *,
        validate_containers: bool = True,
    ) -> list[tuple[int, ...]] | None:
        """Have chunks of an array be ranges of objects outside the repository: all, or none.

        Parameters
        ----------
        array_path
            Path of the array; a leading slash is optional.
        chunks
            The references. Of several to one chunk the last wins.
        validate_containers
            Whether to skip references that no virtual chunk container is responsible for.

        Returns
        -------
        list of tuple of int, or None
            Coordinates of the chunks that were skipped, None if none was.

        Raises
        ------
        InvalidInputError
            Kind ``invalid-virtual-ref``, ``invalid-chunk-index``, ``zero-length-chunk``,
            ``not-an-array``, ``invalid-path``. Nothing is set then.
        NodeNotFoundError
            There is no such array.
        TypeError
            A chunk is no `VirtualChunkSpec`.
        ReadOnlyError
            Kind ``read-only-store``.
        """
        self._check_session()
        path = normalize(array_path)
        given = list(chunks)
        with operation("set_virtual_refs", path=path):
            return self._put_virtual(
                path, lambda rank: refs_of_specs(given, rank), validate=validate_containers
            )

    set_virtual_refs_async = in_thread(set_virtual_refs)

    def set_virtual_refs_arr(
        self,
        array_path: str,
        chunk_grid_shape: Sequence[int],
        locations: Sequence[str] | np.ndarray[Any, np.dtype[Any]],
        offsets: np.ndarray[Any, np.dtype[np.uint64]],
        lengths: np.ndarray[Any, np.dtype[np.uint64]],
        *,
        validate_containers: bool = True,
        arr_offset: Sequence[int] | None = None,
        checksum: datetime | str | None = None,
    ) -> list[tuple[int, ...]] | None:
        """Have chunks of an array be ranges of objects, given as columns: all, or none.

        Parameters
        ----------
        array_path
            Path of the array; a leading slash is optional.
        chunk_grid_shape
            Size, in chunks, of the region of the array to set.
        locations
            URLs of the objects, one per chunk of the region in row-major order; where one is
            empty nothing is set.
        offsets, lengths
            The ranges of bytes, as one-dimensional arrays of dtype uint64.
        validate_containers
            Whether to skip references that no virtual chunk container is responsible for.
        arr_offset
            Where the region begins, in chunks; by default at the beginning of the array.
        checksum
            What all the objects must still be, see `set_virtual_ref`.

        Returns
        -------
        list of tuple of int, or None
            Coordinates of the chunks that were skipped for want of a container, None if none was.

        Raises
        ------
        InvalidInputError
            Kind ``invalid-virtual-ref``, ``invalid-chunk-index``, ``zero-length-chunk``,
            ``not-an-array``, ``invalid-path``. Nothing is set then.
        NodeNotFoundError
            There is no such array.
        TypeError, ValueError
            The columns are of other types, or their lengths do not go together.
        ReadOnlyError
            Kind ``read-only-store``.

        Notes
        -----
        A million references take a few tenths of a second and no Python object each.
        """
        self._check_session()
        path = normalize(array_path)
        with operation("set_virtual_refs_arr", path=path):
            refs = refs_of_arrays(
                chunk_grid_shape, locations, offsets, lengths, arr_offset, checksum
            )
            return self._put_virtual(
                path, lambda _: refs, validate=validate_containers, skip_empty=True
            )

    set_virtual_refs_arr_async = in_thread(set_virtual_refs_arr)

    def _put_virtual(
        self,
        path: str,
        refs: Callable[[int], VirtualRefs],
        *,
        validate: bool,
        skip_empty: bool = False,
    ) -> list[tuple[int, ...]] | None:
        """Record references to virtual chunks; return where some were left out, None if nowhere."""
        workspace = self._workspace
        containers = workspace.context.virtual.containers
        nodes = workspace.nodes
        nodes.changes.require_edits()
        node = nodes.get_array(path)
        assert node.grid is not None
        table, skipped = refs(len(node.grid.num_chunks)).table(
            node.grid, path, containers, validate=validate, skip_empty=skip_empty
        )
        workspace.record_table(node, table, nodes)
        return skipped or None

    async def delete(self, key: str) -> None:
        """Delete a node with all below it, or a chunk; nothing there is no error."""
        self._check_session(ErrorKind.READ_ONLY_SESSION)
        await self._load()
        self.delete_sync(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete a node with all below it, or all chunks below a chunk prefix."""
        self._check_session()
        await self._in_thread(lambda: self._delete_below(prefix))

    async def clear(self) -> None:
        """Delete every node, the root included."""
        self._check_session(ErrorKind.READ_ONLY_SESSION)
        await self._in_thread(lambda: self._delete_below(""))

    def sync_clear(self) -> None:
        """Delete every node, without an event loop."""
        self._check_session(ErrorKind.READ_ONLY_SESSION)
        self._delete_below("")

    def _delete_below(self, prefix: str) -> None:
        text = prefix.strip("/")
        path = node_path(text)
        nodes = self._workspace.nodes
        if path == "/":
            nodes.clear()
            return
        array = None if nodes.find(path) is not None else nodes.nearest_array(path)
        leading = None
        if array is not None:
            leading = chunk_prefix(array.path, path if array.path != "/" else text)
        if array is None or leading is None:
            nodes.delete(path)
        else:
            self._workspace.delete_chunks(array, leading)

    def _check_value(self, value: object) -> None:
        if not isinstance(value, Buffer):
            raise TypeError(
                "IcechunkStore.set(): `value` must be a Buffer instance. "
                f"Got an instance of {type(value)} instead."
            )

    def _check_session(self, kind: ErrorKind = ErrorKind.READ_ONLY_STORE) -> None:
        if self._session._read_only:
            raise ReadOnlyError(
                f"cannot write: the session is read-only at snapshot {self._session.snapshot_id}; "
                "open one with Repository.writable_session",
                kind,
            )
        self._check_writable()

    # --- listing -------------------------------------------------------------------------------

    def list(self) -> AsyncCloseableIterator[str]:
        """Iterate over all keys: first documents, then chunks."""
        return self.list_prefix("")

    def list_prefix(self, prefix: str) -> AsyncCloseableIterator[str]:
        """Iterate over the keys at and below a node: first documents, then chunks.

        Raises
        ------
        InvalidInputError
            Kind ``bad-key-prefix``: no node lies there.
        """
        path = node_path(prefix)
        if path != "/" and self._workspace.nodes.find(path) is None:
            raise InvalidInputError(
                f"bad key prefix `{prefix}`: no group or array exists there",
                ErrorKind.BAD_KEY_PREFIX,
            )
        blocking = not self._workspace.context.storage.is_local
        return AsyncCloseableIterator(self._keys_below(path), blocking=blocking)

    def list_dir(self, prefix: str) -> AsyncCloseableIterator[str]:
        """Iterate over the names directly below a prefix; nothing when it does not exist."""
        workspace = self._workspace
        is_quick = workspace.context.storage.is_local or (
            workspace.is_loaded and workspace.nodes.find(node_path(prefix)) is not None
        )
        if is_quick:
            return AsyncCloseableIterator(self._names_in(prefix))
        return AsyncCloseableIterator(self._names_later(prefix), blocking=True)

    def array_chunk_iterator(
        self, array_path: str, batch_size: int = 100_000
    ) -> AsyncCloseableIterator[ChunkArrays]:
        """Iterate over the references of all chunks of an array, as arrays of a batch each.

        For ``for`` and ``async for``. Uncommitted references come first. Yields nothing where
        there is no array.

        Parameters
        ----------
        array_path
            Path of the array; a leading slash is optional.
        batch_size
            References per batch; the last one has what is left.

        Returns
        -------
        AsyncCloseableIterator
            Of tuples: coordinates (``uint32``, one row per chunk), kinds (``uint8``, see
            `ChunkType`), paths (the URL of a virtual chunk, the id of a native one, or empty),
            offsets and lengths in bytes (``uint64``), and a dictionary from row to the bytes of an
            inline chunk.

        Raises
        ------
        InvalidInputError
            Kind ``invalid-path``; `batch_size` is less than one. While iterating, kind
            ``no-container-for-virtual-chunk``: a location is relative to a container that is not
            configured.
        """
        path = normalize(array_path)
        require_batch_size(batch_size)
        workspace = self._workspace

        def batches() -> Iterator[ChunkArrays]:
            node = workspace.nodes.find(path)
            if node is not None and node.is_array:
                containers = workspace.context.config.virtual_chunk_containers or {}
                yield from array_batches(workspace, node, batch_size, containers)

        return AsyncCloseableIterator(batches(), blocking=not workspace.context.storage.is_local)

    async def is_empty(self, prefix: str) -> bool:
        """Whether nothing lies below a prefix."""
        return not await self._in_thread(lambda: self._names_in(prefix))

    def _keys_below(self, path: str) -> Iterator[str]:
        states = list(self._workspace.nodes.subtree(path))
        for state in states:
            yield metadata_key(state.path)
        for state in states:
            if state.is_array:
                yield from _chunk_keys(state, self._workspace.chunk_table(state))

    def _names_later(self, prefix: str) -> Iterator[str]:
        yield from self._names_in(prefix)

    def _names_in(self, prefix: str) -> Sequence[str]:
        text = prefix.strip("/")
        path = node_path(text)
        nodes = self._workspace.nodes
        node = nodes.find(path)
        if node is not None:
            return (
                [METADATA_NAME, "c"]
                if node.is_array
                else [
                    *nodes.child_names(path),
                    METADATA_NAME,
                ]
            )
        array = nodes.nearest_array(path)
        if array is None:
            return []
        leading = chunk_prefix(array.path, path if array.path != "/" else text)
        if leading is None:
            return []
        return _next_coordinates(self._workspace.chunk_table(array), leading)

    def _size_below(self, prefix: str) -> int:
        path = node_path(prefix)
        nodes = self._workspace.nodes
        if path != "/" and nodes.find(path) is None:
            array = nodes.nearest_array(path)
            leading = None
            if array is not None:
                text = path if array.path != "/" else prefix.strip("/")
                leading = chunk_prefix(array.path, text)
            if array is None or leading is None:
                raise InvalidInputError(
                    f"bad key prefix `{prefix}`: no group or array exists there",
                    ErrorKind.BAD_KEY_PREFIX,
                )
            table = self._workspace.chunk_table(array)
            return int(table.lengths[starts_with(table, leading)].sum())
        total = 0
        for state in nodes.subtree(path):
            total += len(state.user_data)
            if state.is_array:
                total += int(self._workspace.chunk_table(state).lengths.sum())
        return total

    # --- event loop ----------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Run work that may fetch manifests: at once where that is quick, else in a thread."""
        if self._workspace.context.storage.is_local:
            return work()
        return await asyncio.to_thread(work)

    async def _find_async(self, key: str) -> bytes | ChunkRef | None:
        """Do as `_find` does, in a thread only when something has to be fetched."""
        workspace = self._workspace
        if not workspace.context.storage.is_local:
            prefix, coords = split_chunk_key(key.removeprefix("/")) or ("", ())
            if workspace.must_fetch("/" + prefix, coords):
                return await asyncio.to_thread(self._find, key)
        return self._find(key)

    async def _find_many(self, keys: Sequence[str]) -> Sequence[bytes | ChunkRef | None]:
        """Do as `_find` does for many keys, in a thread only when something has to be fetched."""
        workspace = self._workspace
        found: _FoundValues = [None] * len(keys)
        await self._load()
        chunks: _Chunks = []
        for position, key in enumerate(keys):
            with operation("get", key=key):
                parsed = parse_key(key)
            if isinstance(parsed, ChunkKey):
                chunks.append((position, *parsed))
            elif isinstance(parsed, MetadataKey):
                node = workspace.nodes.find(parsed.path)
                found[position] = None if node is None else node.user_data
        wanted = [(path, coords) for _, path, coords in chunks]
        must_fetch = not workspace.context.storage.is_local and any(
            workspace.must_fetch(path, coords) for path, coords in wanted
        )
        if must_fetch:
            refs = await asyncio.to_thread(workspace.locate_many, wanted)
        else:
            refs = workspace.locate_many(wanted)
        for (position, _, _), ref in zip(chunks, refs, strict=True):
            found[position] = ref
        return found

    async def _load(self) -> None:
        if not self._workspace.is_loaded:
            await self._in_thread(lambda: self._workspace.nodes)


def _is_plain(key: str) -> bool:
    """Whether every path component is beyond doubt legal, so that `parse_key` can be spared."""
    return not key.startswith(("/", ".")) and "//" not in key and "/." not in key


def _checksums(checksum: str | datetime | None) -> tuple[str | None, datetime | None]:
    """Tell an entity tag from a time."""
    if isinstance(checksum, str):
        return checksum, None
    seconds_of(checksum)
    return None, checksum


def _bytes_of(value: Buffer) -> memoryview:
    """View a buffer's bytes; copied only when they are not contiguous."""
    return np.ascontiguousarray(value.as_numpy_array()).view(np.uint8).data


def _unpickle(
    cls: type[IcechunkStore], session: Session, read_only: bool, is_open: bool
) -> IcechunkStore:
    store = cls(session, read_only)
    store._is_open = is_open
    return store


def _chunk_keys(state: NodeState, table: ChunkTable) -> Iterator[str]:
    prefix = chunk_key_prefix(state.path)
    if table.rank == 0:
        yield from [prefix] * len(table)
        return
    for coords in table.coords.tolist():
        yield "/".join([prefix, *map(str, coords)])


def _next_coordinates(table: ChunkTable, leading: Coords) -> list[str]:
    """Names of the directory entries below a chunk prefix."""
    axis = len(leading)
    if axis >= table.rank:
        return []
    values = np.unique(table.coords[starts_with(table, leading), axis])
    return [str(value) for value in values.tolist()]


def _span(length: int, request: ByteRequest | None, what: str) -> tuple[int, int]:
    """Resolve a byte request against a value of known length; no clamping."""
    if request is None:
        return 0, length
    match request:
        case RangeByteRequest(start, end):
            shown = f"Bounded({start}..{end})"
            fits = 0 <= start <= end <= length and start < max(length, 1)
        case OffsetByteRequest(start):
            end, shown = length, f"From({start})"
            fits = 0 <= start < length
        case SuffixByteRequest(suffix):
            start, end, shown = length - suffix, length, f"Last({suffix})"
            fits = 0 <= suffix <= length
        case _:
            raise ValueError(f"Unexpected byte_range, got {request!r}.")
    if not fits:
        raise InvalidInputError(
            f"byte range {shown} is out of bounds for {what} of length {length}",
            ErrorKind.INVALID_BYTE_RANGE,
        )
    return start, end


def _slice(document: bytes, request: ByteRequest | None) -> bytes:
    start, end = _span(len(document), request, "document")
    return document[start:end]


def _place(group: Iterable[tuple[int, bytes]], values: list[bytes | None]) -> None:
    for position, data in group:
        values[position] = data


def _no_v2(key: str) -> SessionStateError:
    return SessionStateError(
        f"cannot write `{key}`: Icechunk stores Zarr v3 only; create the array or group with "
        "zarr_format=3",
        ErrorKind.UNIMPLEMENTED,
    )
