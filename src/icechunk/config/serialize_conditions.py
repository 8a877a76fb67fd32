"""Stored form of conditions and splitting rules.

Icechunk spec, 'Repository configuration': enums are externally tagged; tags of dimension
conditions and bounds are in CamelCase, all others in snake_case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from icechunk.config import preload as p
from icechunk.config import split_conditions as s
from icechunk.config.codecs import (
    INT,
    TEXT,
    Codec,
    Tagged,
    made,
    mapping,
    refuse,
    required,
    sequence,
    tag_of,
)

_MAX_DEPTH = 64
"""Nesting of conditions beyond this is taken for an attack on the stack."""


def _encode_split(condition: Any) -> Any:
    match condition:
        case s.SplitOr(conditions):
            return Tagged({"or": [_encode_split(c) for c in conditions]})
        case s.SplitAnd(conditions):
            return Tagged({"and": [_encode_split(c) for c in conditions]})
        case s.SplitPathMatches(regex):
            return Tagged(path_matches={"regex": regex})
        case s.SplitNameMatches(regex):
            return Tagged(name_matches={"regex": regex})
        case s.SplitAnyArray():
            return "any_array"
    raise TypeError(f"not a ManifestSplitCondition: {condition!r}")


def _encode_preload(condition: Any) -> Any:
    match condition:
        case p.PreloadOr(conditions):
            return Tagged({"or": [_encode_preload(c) for c in conditions]})
        case p.PreloadAnd(conditions):
            return Tagged({"and": [_encode_preload(c) for c in conditions]})
        case p.PreloadPathMatches(regex):
            return Tagged(path_matches={"regex": regex})
        case p.PreloadNameMatches(regex):
            return Tagged(name_matches={"regex": regex})
        case p.PreloadNumRefs(low, high):
            return Tagged(
                num_refs={
                    "from": "Unbounded" if low is None else Tagged(Included=low),
                    "to": "Unbounded" if high is None else Tagged(Excluded=high),
                }
            )
        case p.PreloadTrue():
            return "true"
        case p.PreloadFalse():
            return "false"
    raise TypeError(f"not a ManifestPreloadCondition: {condition!r}")


def _num_refs(content: Any, where: str) -> p.PreloadNumRefs:
    bounds = mapping(content, where)
    low = _bound(required(bounds, "from", where), f"{where}.from", excluded_adds=1, included_adds=0)
    high = _bound(required(bounds, "to", where), f"{where}.to", excluded_adds=0, included_adds=1)
    if high is not None and high > 2**32 - 1:  # up to and including the largest number
        high = None
    condition: p.PreloadNumRefs = made(where, p.PreloadNumRefs, low, high)
    return condition


def _bound(value: Any, where: str, *, excluded_adds: int, included_adds: int) -> int | None:
    tag, content = tag_of(value, where)
    match tag:
        case "Unbounded" if content is None:
            return None
        case "Included":
            number: int = INT.decode(content, where)
            return number + included_adds
        case "Excluded":
            number = INT.decode(content, where)
            return number + excluded_adds
    return refuse(where, f"has the unknown bound {tag!r}")


Leaf = Callable[[Any, str], Any]


def _regex(make: Callable[[str], Any]) -> Leaf:
    def leaf(content: Any, where: str) -> Any:
        regex = required(mapping(content, where), "regex", where)
        return make(TEXT.decode(regex, f"{where}.regex"))

    return leaf


def _unit(make: Callable[[], Any]) -> Leaf:
    def leaf(content: Any, where: str) -> Any:
        if content is not None:
            refuse(where, "has content where none is expected")
        return make()

    return leaf


def _decoder(
    any_of: Callable[[Any], Any], all_of: Callable[[Any], Any], leaves: dict[str, Leaf]
) -> Callable[[Any, str], Any]:
    def decode(value: Any, where: str, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            refuse(where, f"is nested more than {_MAX_DEPTH} deep")
        tag, content = tag_of(value, where)
        inner = f"{where}.{tag}" if depth < 3 else where
        if tag in ("or", "and"):
            conditions = tuple(decode(c, inner, depth + 1) for c in sequence(content, inner))
            return any_of(conditions) if tag == "or" else all_of(conditions)
        if tag not in leaves:
            refuse(where, f"has the unknown condition {tag!r}")
        return leaves[tag](content, inner)

    return decode


SPLIT_CONDITION = Codec(
    _encode_split,
    _decoder(
        s.SplitOr,
        s.SplitAnd,
        {
            "path_matches": _regex(s.SplitPathMatches),
            "name_matches": _regex(s.SplitNameMatches),
            "any_array": _unit(s.SplitAnyArray),
        },
    ),
)

PRELOAD_CONDITION = Codec(
    _encode_preload,
    _decoder(
        p.PreloadOr,
        p.PreloadAnd,
        {
            "path_matches": _regex(p.PreloadPathMatches),
            "name_matches": _regex(p.PreloadNameMatches),
            "num_refs": _num_refs,
            "true": _unit(p.PreloadTrue),
            "false": _unit(p.PreloadFalse),
        },
    ),
)


def _encode_dim(condition: s.DimCondition) -> Any:
    match condition:
        case s.ManifestSplitDimCondition.Axis(axis):
            return Tagged(Axis=axis)
        case s.ManifestSplitDimCondition.DimensionName(regex):
            return Tagged(DimensionName=regex)
        case s.ManifestSplitDimCondition.Any():
            return "Any"


def _decode_dim(value: Any, where: str) -> s.DimCondition:
    tag, content = tag_of(value, where)
    match tag:
        case "Axis":
            axis = INT.decode(content, where)
            condition: s.DimCondition = made(where, s.ManifestSplitDimCondition.Axis, axis)
            return condition
        case "DimensionName":
            return s.ManifestSplitDimCondition.DimensionName(TEXT.decode(content, where))
        case "Any" if content is None:
            return s.ManifestSplitDimCondition.Any()
    return refuse(where, f"has the unknown dimension condition {tag!r}")


def _encode_split_sizes(sizes: Any) -> list[Any]:
    return [
        [
            _encode_split(condition),
            [{"condition": _encode_dim(dim), "num_chunks": size} for dim, size in dims],
        ]
        for condition, dims in sizes
    ]


def _decode_split_sizes(value: Any, where: str) -> tuple[Any, ...]:
    rules = []
    for i, item in enumerate(sequence(value, where)):
        rule = sequence(item, f"{where}[{i}]")
        if len(rule) != 2:
            refuse(f"{where}[{i}]", f"must have 2 elements, not {len(rule)}")
        condition = SPLIT_CONDITION.decode(rule[0], f"{where}[{i}]")
        rules.append((condition, _decode_dims(rule[1], f"{where}[{i}]")))
    return tuple(rules)


def _decode_dims(value: Any, where: str) -> tuple[tuple[s.DimCondition, int], ...]:
    dims = []
    for item in sequence(value, where):
        fields = mapping(item, where)
        condition = _decode_dim(required(fields, "condition", where), f"{where}.condition")
        size = INT.decode(required(fields, "num_chunks", where), f"{where}.num_chunks")
        dims.append((condition, size))
    return tuple(dims)


SPLIT_SIZES = Codec(_encode_split_sizes, _decode_split_sizes)
