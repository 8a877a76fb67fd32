"""Keys, documents, values and ranges that a store refuses."""

from __future__ import annotations

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from interop.misuse import (
    GROUP,
    PROTOTYPE,
    Call,
    array_document,
)


def keys() -> dict[str, Call]:
    """Return calls with keys that are invalid, or name nothing."""
    keys = {
        "get": ["foo", "c/x", "array/c/0/x", "array/c/-1/0", "array/c/4294967296", "a/../zarr.json",
                "", "/", "array", "array/c", "array/c/0", "array/c/9/9", "group/c/0", "no/c/0",
                "no/zarr.json", ".zgroup", "array/.zarray", "/array/zarr.json", "array//zarr.json",
                "zarr.json/", "array/c/0/1/", "array/c/0/1/2", "array/c/00/1", "array/c/+1/0"],
        "exists": ["foo", "array/c/0/0", "array/c/3/0", "array/c/9/9", "no/zarr.json", ".zgroup",
                   "array/.zarray", "group/zarr.json", "no/c/0"],
        "delete": ["foo", "no/zarr.json", "array/c/9/9", "no/c/0", "group/c/0", ".zgroup",
                   "array/c/0/x"],
        "delete_dir": ["foo", "no/such", "array/c/9", "array/d", "array/c/x", "", "arr", "gro"],
        "getsize": ["foo", "array/c/0/0", "array/c/3/0", "no/zarr.json", "no/c/0", ".zgroup"],
        "is_empty": ["", "arr", "array", "group", "no"],
        "getsize_prefix": ["no", "arr"],
    }  # fmt: skip
    table: dict[str, Call] = {}
    for method, arguments in keys.items():
        for key in arguments:
            if method == "get":
                table[f"get {key!r}"] = lambda s, key=key: bool(s.get(key))
            else:
                table[f"{method} {key!r}"] = lambda s, m=method, key=key: s.do(m, key)
    for prefix in ("", "/", "arr", "array", "array/c", "array/c/0", "group", "no", "no/such"):
        for method in ("list_prefix", "list_dir"):
            table[f"{method} {prefix!r}"] = lambda s, m=method, p=prefix: s.listed(m, p)
    return table


def values() -> dict[str, Call]:
    """Return calls with documents, chunks and ranges that make no sense."""
    documents = {
        "not JSON": b"{",
        "not an object": b"[]",
        "no node_type": b"{}",
        "unknown node_type": b'{"node_type": "thing"}',
        "empty": b"",
        "not UTF-8": b'{"node_type": "group", "x": "\xff"}',
        "no shape": array_document(shape="-"),
        "negative shape": array_document(shape=[-1]),
        "float shape": array_document(shape=[1.5]),
        "shape no list": array_document(shape=4),
        "no grid": array_document(chunk_grid="-"),
        "unknown grid": array_document(chunk_grid={"name": "other", "configuration": {}}),
        "chunk shape of other rank": array_document(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 2]}}
        ),
        "fewer chunk dimensions": array_document(
            shape=[4, 4], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2]}}
        ),
        "negative chunk": array_document(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [-2]}}
        ),
        "zero chunk": array_document(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0]}}
        ),
        "bare integer rectilinear": array_document(
            chunk_grid={
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [2]},
            }
        ),
        "group without format": b'{"node_type": "group"}',
        "format 2": b'{"node_type": "group", "zarr_format": 2}',
        "dimension name a number": array_document(dimension_names=[1]),
        "dimension names null": array_document(dimension_names=None),
        "minimal array": array_document(),
    }
    table: dict[str, Call] = {
        f"document: {name}": lambda s, d=document: s.set("new/zarr.json", d)
        for name, document in documents.items()
    }
    table |= {
        "group over array": lambda s: s.set("array/zarr.json", GROUP),
        "array over group": lambda s: s.set("group/zarr.json", array_document()),
        "zero-length chunk": lambda s: s.set("array/c/0/0", b""),
        "chunk beyond the grid": lambda s: s.set("array/c/4/0", b"x"),
        "chunk far beyond the grid": lambda s: s.set("array/c/0/4000000000", b"x"),
        "chunk of lower rank": lambda s: s.set("array/c/0", b"x"),
        "chunk of higher rank": lambda s: s.set("array/c/0/0/0", b"x"),
        "chunk of no array": lambda s: s.set("no/c/0", b"x"),
        "chunk of a group": lambda s: s.set("group/c/0", b"x"),
        "chunk of the root": lambda s: s.set("c/0", b"x"),
        "set of an invalid key": lambda s: s.set("foo", b"x"),
        "set of a v2 key": lambda s: s.set(".zgroup", b"{}"),
        "set of a v2 array key": lambda s: s.set("array/.zarray", b"{}"),
        "value no buffer": lambda s: s.do("set", "array/c/0/0", 5),
        "set_if_not_exists": lambda s: s.do(
            "set_if_not_exists", "zarr.json", PROTOTYPE.buffer.from_bytes(b"{")
        ),
    }
    ranges = {
        "inside": RangeByteRequest(1, 3),
        "nothing": RangeByteRequest(2, 2),
        "all": RangeByteRequest(0, 16),
        "past the end": RangeByteRequest(1, 17),
        "beyond the end": RangeByteRequest(16, 17),
        "reversed": RangeByteRequest(3, 1),
        "from": OffsetByteRequest(5),
        "from the end": OffsetByteRequest(16),
        "from beyond": OffsetByteRequest(17),
        "far": RangeByteRequest(700, 710),
        "to the end": RangeByteRequest(890, 900),
        "beyond all ends": RangeByteRequest(899, 901),
        "last": SuffixByteRequest(5),
        "last all": SuffixByteRequest(16),
        "last none": SuffixByteRequest(0),
        "last too many": SuffixByteRequest(17),
        "a tuple": (0, 1),
    }
    for name, byte_range in ranges.items():
        table[f"range of a chunk: {name}"] = lambda s, r=byte_range: s.get("array/c/0/0", r).hex()
        table[f"range of a native chunk: {name}"] = lambda s, r=byte_range: s.get(
            "native/c/0", r
        ).hex()
        if name != "reversed":
            table[f"range of a document: {name}"] = lambda s, r=byte_range: s.get(
                "group/zarr.json", r
            ).decode()
    table["range of a missing chunk"] = lambda s: s.get("array/c/3/0", RangeByteRequest(0, 99))
    table["range of a missing node"] = lambda s: s.get("no/zarr.json", OffsetByteRequest(99))
    return table
