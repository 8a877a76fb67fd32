"""The same wrong call fails in the same way, or our way to differ is written down here."""

from __future__ import annotations

import pytest
from oracle import Oracle, Side

ITS_DEFECT = "a defect of the reference"
SOLVERS = ("detector", "solver", "strict solver", "giving solver")
ONE_PATH = ITS_DEFECT + ": afterwards two nodes have one path"
DELIBERATE = {
    f"{solver}: {what}": ONE_PATH
    for solver in SOLVERS
    for what in (
        "array replaced, theirs array replaced",
        "array replaced, theirs array replaced by a group",
        "destination of ours taken",
    )
} | {
    "get 'group/c/0'": "a group has no chunks, so there is no value: None as for any other key",
    "get '/array/zarr.json'": "a leading slash is ignored everywhere",
    "get 'array//zarr.json'": "an empty name is an invalid key, not a missing node",
    "get 'array/c/+1/0'": "a coordinate is written in digits only",
    "exists '.zgroup'": ITS_DEFECT + ": a key that holds no value does not exist",
    "exists 'array/.zarray'": ITS_DEFECT + ": a key that holds no value does not exist",
    "getsize 'array/c/3/0'": "Zarr's store contract asks for FileNotFoundError",
    "getsize 'no/zarr.json'": "one kind for every key without a value; also FileNotFoundError",
    "getsize 'no/c/0'": "one kind for every key without a value; also FileNotFoundError",
    "document: not UTF-8": "JSON is UTF-8",
    "document: chunk shape of other rank": "no key would name a chunk of such an array",
    "document: bare integer rectilinear": "Zarr writes one number for an axis of equal chunks",
    "chunk of lower rank": ITS_DEFECT + ": it stores what it can never read",
    "chunk of higher rank": ITS_DEFECT + ": it stores what it can never read",
    "range of a chunk: reversed": ITS_DEFECT + ": it panics",
    "range of a native chunk: reversed": ITS_DEFECT + ": it asks the storage",
    "range of a native chunk: nothing": ITS_DEFECT + ": inline chunks allow it, native ones do not",
    "range of a native chunk: last none": ITS_DEFECT + ": inline chunks allow it, native do not",
    "range of a document: last": ITS_DEFECT + ": it returns all but the last bytes",
    "range of a document: last all": ITS_DEFECT + ": it returns all but the last bytes",
    "range of a document: last none": ITS_DEFECT + ": it returns all but the last bytes",
    "range of a document: last too many": ITS_DEFECT + ": it returns all but the last bytes",
    "range of a document: far": ITS_DEFECT + ": it panics",
    "range of a document: to the end": ITS_DEFECT + ": it panics",
    "range of a document: beyond all ends": ITS_DEFECT + ": it panics",
    "rearranging move of a path that ends with a slash": "no path of a node ends with a slash",
    "rearranging move to a path that ends with a slash": ITS_DEFECT
    + ": it makes a node that no key can name",
    "rearranging move to a path with an empty name": "no path of a node has an empty name",
    "reindex before the grid": "the same error as beyond the grid",
    "reindex to too few coordinates": ITS_DEFECT + ": it stores what it can never read",
    "reindex to too many coordinates": ITS_DEFECT + ": it stores what it can never read",
    "shift along too few axes": ITS_DEFECT + ": it panics",
    "shift along too many axes": "which axes the surplus numbers are for is a guess",
    "reindex to backward below the grid": "as beyond the grid: no chunk is there",
    "coordinates, relative": "an invalid path as everywhere",
    "rebase below the edited array": ITS_DEFECT + ": the commit then drops the edits silently",
    "rebase over a missing log": "the same kind as for a log that expired",
    "lookup of an invalid snapshot": "an id with stray bits at its end is not an id",
    "manifests of no snapshot": "the snapshot is what was not found, not an object",
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(ours: Side, theirs: Oracle) -> dict[str, tuple[object, object]]:
    mine, other = (side.call("bad_calls.outcomes") for side in (ours, theirs))
    assert mine.keys() == other.keys()
    return {name: (mine[name], other[name]) for name in mine}


def test_calls_fail_alike(outcomes: dict[str, tuple[object, object]]) -> None:
    different = [
        f"{name}: ours {mine}, theirs {other}"
        for name, (mine, other) in outcomes.items()
        if mine != other and name not in DELIBERATE
    ]
    assert not different, "\n".join(different)


def test_deliberate_differences_exist(outcomes: dict[str, tuple[object, object]]) -> None:
    same = [name for name in DELIBERATE if outcomes[name][0] == outcomes[name][1]]
    assert same == []
