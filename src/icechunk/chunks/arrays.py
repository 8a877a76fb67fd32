"""Names for the array types of the chunk layer, and the one way input becomes a column.

A column is normalised once, where it enters a table: right dtype, contiguous, read-only. Code past
that point relies on it and never converts again.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from icechunk.errors import ErrorKind, InvalidInputError

Bytes: TypeAlias = npt.NDArray[np.uint8]
Coords: TypeAlias = npt.NDArray[np.uint32]
Rows: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
AnyArray: TypeAlias = npt.NDArray[Any]

ID_SIZE = 12
MAX_COORD = 2**32 - 1
MAX_RANK = 255


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only view, leaving the caller's own array as writable as it was."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_column(name: str, values: npt.ArrayLike, dtype: npt.DTypeLike, n: int) -> npt.NDArray[Any]:
    """Return `values` as a read-only contiguous column of `n` unsigned integers.

    A scalar is repeated. Input that already fits is not copied.

    Raises
    ------
    InvalidInputError
        The length differs from `n`, the values are not integers or do not fit `dtype`.
    """
    wanted = np.dtype(dtype)
    array = np.asarray(values)
    if array.ndim == 0:
        array = np.broadcast_to(array, (n,))
    if array.shape != (n,):
        raise InvalidInputError(
            f"column {name!r} has shape {array.shape}, but the chunk table has {n} rows",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    if array.dtype != wanted:
        array = _fitted(name, array, wanted)
    return frozen(np.ascontiguousarray(array))


def as_ids(values: npt.ArrayLike | bytes | bytearray | memoryview, n: int) -> Bytes:
    """Return chunk ids as an `(n, 12)` uint8 column; a bytes-like of `12 n` bytes also serves."""
    if isinstance(values, (bytes, bytearray, memoryview)):
        values = np.frombuffer(values, np.uint8)
    array = np.asarray(values)
    if array.dtype != np.uint8 or array.size != n * ID_SIZE or array.ndim > 2:
        raise InvalidInputError(
            f"chunk ids must be {n} x {ID_SIZE} bytes (uint8), "
            f"got {array.dtype} of shape {array.shape}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    return frozen(np.ascontiguousarray(array.reshape(n, ID_SIZE)))


def as_coords(values: npt.ArrayLike, rank: int | None = None) -> Coords:
    """Return chunk coordinates as a read-only C-contiguous `(n, rank)` uint32 array.

    Raises
    ------
    InvalidInputError
        The input is not a two-dimensional array of integers in `[0, 2**32)`, or its rank is not
        `rank`.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(
            f"chunk coordinates must all have the same rank: {error}",
            ErrorKind.INVALID_CHUNK_INDEX,
        ) from error
    if array.shape == (0,) and rank is not None:
        array = array.reshape(0, rank)
    if array.ndim != 2 or (rank is not None and array.shape[1] != rank):
        expected = "(n, rank)" if rank is None else f"(n, {rank})"
        raise InvalidInputError(
            f"chunk coordinates must have shape {expected}, got {array.shape}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    if array.shape[1] > MAX_RANK:
        raise InvalidInputError(
            f"chunk coordinates have rank {array.shape[1]}, more than {MAX_RANK}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    if array.dtype != np.uint32:
        array = _fitted("coords", array, np.dtype(np.uint32))
    return frozen(np.ascontiguousarray(array))


def _fitted(name: str, array: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if array.size:
        limit = int(np.iinfo(dtype).max)
        if array.dtype.kind not in "iub":
            raise InvalidInputError(
                f"{name} must be integers, got an array of {array.dtype}",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > limit:
            raise InvalidInputError(
                f"{name} must lie in [0, {limit}], got values from {low} to {high}",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
    return array.astype(dtype)
