"""The stock flatbuffers builder and table reader, driven by our schema: the slow twin of the codec.

A table is a dict of the fields it has: numbers as int, structs as their bytes, strings as str,
byte vectors as bytes, other vectors as lists of the bytes of each element, child tables as dicts,
vectors of them as lists, unions as a pair of discriminant and dict.
"""

from types import SimpleNamespace

import flatbuffers
import numpy as np
import pytest
from flatbuffers import encode as stock_encode
from flatbuffers import number_types
from flatbuffers.table import Table as StockTable
from hypothesis import strategies as st

from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.flatbuf import Buffer, Children, Maybe, Ragged, Rows, Tables, Union, encode
from icechunk.format.schema import U8, Kind, Table

NUMBERS = {
    "u8": number_types.Uint8Flags,
    "bool": number_types.Uint8Flags,
    "u16": number_types.Uint16Flags,
    "u32": number_types.Uint32Flags,
    "u64": number_types.Uint64Flags,
    "i32": number_types.Int32Flags,
}


def build_table(builder, table, row, extra_slots=0):
    children = {}
    for name, value in row.items():
        field = table[name]
        if field.kind is Kind.STRING:
            children[name] = builder.CreateString(value)
        elif field.kind is Kind.VECTOR and field.element is U8:
            children[name] = builder.CreateByteVector(value)
        elif field.kind is Kind.VECTOR:
            builder.StartVector(field.element.size, len(value), field.element.align)
            for item in reversed(value):
                for byte in reversed(item):
                    builder.PrependByte(byte)
            children[name] = builder.EndVector()
        elif field.kind is Kind.TABLE:
            children[name] = build_table(builder, field.target, value, extra_slots)
        elif field.kind is Kind.UNION:
            children[name] = build_table(builder, field.members[value[0]], value[1], extra_slots)
        elif field.kind in (Kind.TABLES, Kind.STRINGS):
            if field.kind is Kind.TABLES:
                made = [build_table(builder, field.target, item, extra_slots) for item in value]
            else:
                made = [builder.CreateString(item) for item in value]
            builder.StartVector(4, len(made), 4)
            for item in reversed(made):
                builder.PrependUOffsetTRelative(item)
            children[name] = builder.EndVector()
    slots = max((f.slot + 2 for f in table.fields.values()), default=0)
    builder.StartObject(slots + extra_slots)
    for name, value in row.items():
        field = table[name]
        if field.kind is Kind.SCALAR:
            builder.Prep(field.element.size, 0)
            builder.Prepend(NUMBERS[field.element.name], value)
            builder.Slot(field.slot)
        elif field.kind is Kind.STRUCT:
            builder.Prep(max(field.element.align, 4), field.element.size)
            builder.head -= field.element.size
            builder.Bytes[builder.Head() : builder.Head() + field.element.size] = value
            builder.Slot(field.slot)
        elif field.kind is Kind.UNION:
            builder.PrependUint8Slot(field.slot, value[0], 0)
            builder.PrependUOffsetTRelativeSlot(field.slot + 1, children[name], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field.slot, children[name], 0)
    for extra in range(extra_slots):
        builder.PrependUint64Slot(slots + extra, 2**64 - 1, 0)
    return builder.EndObject()


def build(table: Table, row: dict, extra_slots: int = 0) -> bytes:
    builder = flatbuffers.Builder(64)
    builder.Finish(build_table(builder, table, row, extra_slots), b"Ichk")
    return bytes(builder.Output())


def read_table(table, stock):
    row = {}
    for name, field in table.fields.items():
        at = stock.Offset(4 + 2 * field.slot)
        if field.kind is Kind.UNION:
            at_value = stock.Offset(6 + 2 * field.slot)
            if at:
                kind = stock.Get(number_types.Uint8Flags, stock.Pos + at)
                child = StockTable(stock.Bytes, stock.Indirect(stock.Pos + at_value))
                row[name] = (kind, read_table(field.members[kind], child))
            continue
        if not at:
            continue
        where = stock.Pos + at
        if field.kind is Kind.SCALAR:
            assert where % field.element.size == 0
            row[name] = int(stock.Get(NUMBERS[field.element.name], where))
        elif field.kind is Kind.STRUCT:
            assert where % field.element.align == 0
            row[name] = bytes(stock.Bytes[where : where + field.element.size])
        elif field.kind is Kind.STRING:
            raw = stock.String(where)
            row[name] = raw.decode()
            end = stock.Indirect(where) + 4 + len(raw)
            assert stock.Bytes[end] == 0, "strings end in NUL"
        elif field.kind is Kind.TABLE:
            row[name] = read_table(field.target, StockTable(stock.Bytes, stock.Indirect(where)))
        else:
            start, count = stock.Vector(at), stock.VectorLen(at)
            assert (start - 4) % 4 == 0
            if field.kind is Kind.VECTOR:
                size = field.element.size
                assert start % field.element.align == 0
                raw = bytes(stock.Bytes[start : start + count * size])
                items = [raw[i : i + size] for i in range(0, len(raw), size)]
                row[name] = raw if field.element is U8 else items
            elif field.kind is Kind.STRINGS:
                row[name] = [stock.String(start + 4 * i).decode() for i in range(count)]
            else:
                row[name] = [
                    read_table(field.target, StockTable(stock.Bytes, stock.Indirect(start + 4 * i)))
                    for i in range(count)
                ]
    return row


def read(table: Table, payload: bytes) -> dict:
    assert payload[4:8] == b"Ichk"
    payload = bytearray(payload)
    root = stock_encode.Get(number_types.UOffsetTFlags.packer_type, payload, 0)
    return read_table(table, StockTable(payload, root))


def our_rows(rows: Rows) -> list[dict]:
    """Every row as a dict, read with the code under test."""
    made = [{} for _ in range(len(rows))]

    def put(name, values, present=None):
        has = rows.present(name) if present is None else present
        for row, value, is_present in zip(made, values, has.tolist(), strict=True):
            if is_present:
                row[name] = value

    def cut(items, counts):
        items = iter(items)
        return [[next(items) for _ in range(count)] for count in counts.tolist()]

    for name, field in rows.table.fields.items():
        match field.kind:
            case Kind.SCALAR:
                put(name, rows.scalar(name).tolist())
            case Kind.STRUCT:
                put(name, [value.tobytes() for value in rows.struct(name)])
            case Kind.STRING:
                put(name, rows.texts(name))
            case Kind.VECTOR if field.element is U8:
                put(name, rows.byte_strings(name).to_list())
            case Kind.VECTOR:
                ragged = rows.vectors(name)
                put(name, [[v.tobytes() for v in ragged[i]] for i in range(len(rows))])
            case Kind.STRINGS:
                put(name, rows.string_lists(name))
            case Kind.TABLES:
                children, counts = rows.tables(name)
                put(name, cut(our_rows(children), counts))
            case Kind.TABLE:
                has = rows.present(name)
                children = iter(our_rows(rows.child(name)))
                put(name, [next(children) if is_present else None for is_present in has])
            case Kind.UNION:
                for kind in np.unique(rows.discriminant(name)).tolist():
                    if kind in field.members:
                        at, members = rows.member(name, kind)
                        for row, member in zip(at.tolist(), our_rows(members), strict=True):
                            made[row][name] = (kind, member)
    return made


def our_read(table: Table, payload: bytes) -> dict:
    return our_rows(Buffer(payload, "files/x").root(table))[0]


def our_tables(table: Table, rows: list[dict]) -> Tables:
    """Columns of dicts, for the code under test."""
    columns = {}
    for name, field in table.fields.items():
        has = np.array([name in row for row in rows], bool)
        present = [row[name] for row in rows if name in row]
        if not present:
            continue
        match field.kind:
            case Kind.SCALAR:
                column = np.array([row.get(name, 0) for row in rows], field.element.dtype)
            case Kind.STRUCT:
                size = field.element.size
                raw = b"".join(row.get(name, bytes(size)) for row in rows)
                column = np.frombuffer(raw, field.element.dtype)
                column = column.reshape(len(rows), *field.element.shape)
            case Kind.STRING:
                column = [row.get(name, "") for row in rows]
            case Kind.VECTOR if field.element is U8:
                column = RaggedBytes.from_list([row.get(name, b"") for row in rows])
            case Kind.VECTOR:
                counts = [len(row.get(name, ())) for row in rows]
                raw = b"".join(item for row in rows for item in row.get(name, ()))
                values = np.frombuffer(raw, field.element.dtype)
                column = Ragged(np.cumsum([0, *counts]), values.reshape(-1, *field.element.shape))
            case Kind.STRINGS:
                counts = [len(row.get(name, ())) for row in rows]
                column = Children(counts, [item for value in present for item in value])
            case Kind.TABLES:
                counts = [len(row.get(name, ())) for row in rows]
                items = [item for value in present for item in value]
                column = Children(counts, our_tables(field.target, items))
            case Kind.TABLE:
                column = our_tables(field.target, present)
            case Kind.UNION:
                types = [row[name][0] if name in row else 0 for row in rows]
                members = {
                    kind: our_tables(
                        field.members[kind], [value[1] for value in present if value[0] == kind]
                    )
                    for kind in set(types) - {0}
                }
                columns[name] = Union(types, members)
                continue
        columns[name] = Maybe(has, column)
    return Tables(len(rows), columns)


def our_build(table: Table, row: dict) -> bytes:
    return bytes(encode(table, our_tables(table, [row])))


def rows_of(table: Table) -> st.SearchStrategy[dict]:
    """Any table of a type, also with required fields only, down to its leaves."""
    required, optional = {}, {}
    for name, field in table.fields.items():
        (required if field.required else optional)[name] = _values_of(field)
    return st.fixed_dictionaries(required, optional=optional)


def _values_of(field):
    match field.kind:
        case Kind.SCALAR:
            info = np.iinfo(field.element.dtype)
            return st.integers(int(info.min), int(info.max))
        case Kind.STRUCT:
            return _elements_of(field)
        case Kind.STRING:
            return st.text(max_size=9)
        case Kind.VECTOR if field.element is U8:
            return st.binary(max_size=9)
        case Kind.VECTOR:
            return st.lists(_elements_of(field), max_size=3)
        case Kind.STRINGS:
            return st.lists(st.text(max_size=5), max_size=3)
        case Kind.TABLE:
            return rows_of(field.target)
        case Kind.TABLES:
            return st.lists(rows_of(field.target), max_size=4)
        case Kind.UNION:
            return st.sampled_from(sorted(field.members)).flatmap(
                lambda kind: st.tuples(st.just(kind), rows_of(field.members[kind]))
            )


def _elements_of(field):
    element = field.element
    if element.dtype.names is None:
        return st.binary(min_size=element.size, max_size=element.size)

    def pad(raw):  # padding between the members of a struct is zero
        value = np.zeros((), element.dtype)
        source = np.frombuffer(raw, element.dtype)[0]
        for name in element.dtype.names:
            value[name] = source[name]
        return value.tobytes()

    return st.binary(min_size=element.size, max_size=element.size).map(pad)


@pytest.fixture(scope="session")
def stock() -> SimpleNamespace:
    """Build and read payloads with the stock package, and translate ours to the same dicts."""
    return SimpleNamespace(
        build=build,
        read=read,
        our_read=our_read,
        our_rows=our_rows,
        our_build=our_build,
        our_tables=our_tables,
        rows_of=rows_of,
    )
