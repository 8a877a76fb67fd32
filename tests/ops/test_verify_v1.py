"""Faults of spec version 1, which keeps refs, history and configuration in files of their own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import icechunk
from icechunk.format.ids import INITIAL_SNAPSHOT_ID, encode_id
from icechunk.format.snapshot import decode_snapshot, encode_snapshot
from icechunk.storage.memory import MemoryStorage
from icechunk.verification import FaultKind, FaultSeverity

GOLDEN = Path(__file__).parents[1] / "golden" / "reference-v1"
MAIN = "refs/branch.main/ref.json"
ERROR, WARNING, NOTE = FaultSeverity.ERROR, FaultSeverity.WARNING, FaultSeverity.NOTE


@pytest.fixture
def storage():
    """A repository that the reference wrote: two commits on main, tag v1 on the first of them."""
    copied = MemoryStorage()
    for file in GOLDEN.rglob("*"):
        if file.is_file():
            copied.put(str(file.relative_to(GOLDEN)), file.read_bytes())
    return copied


def check(storage):
    return icechunk.Repository.verify_storage(storage)


def target(storage, key):
    return json.loads(storage.get(key))["snapshot"]


def tip(storage):
    return f"snapshots/{target(storage, MAIN)}"


def first(storage):
    return f"snapshots/{target(storage, 'refs/tag.v1/ref.json')}"


def edit(storage, key, **changes):
    snapshot = replace(decode_snapshot(storage.get(key), key), **changes)
    storage.put(key, encode_snapshot(snapshot))
    return key


def put(key, data):
    def plant(storage):
        storage.put(key, data)
        return key

    return plant


def no_main(storage):
    storage.delete([MAIN])
    return MAIN


def unknown_target(storage):
    name = encode_id(bytes(12))
    storage.put(MAIN, json.dumps({"snapshot": name}).encode())
    return f"snapshots/{name}"


def lost_parent(storage):
    key = f"snapshots/{encode_id(INITIAL_SNAPSHOT_ID)}"
    storage.delete([key])
    return key


def circle(storage):
    last = decode_snapshot(storage.get(tip(storage)), "")
    edit(storage, first(storage), parent_id=last.id)
    return tip(storage)


def older_child(storage):
    return edit(storage, tip(storage), flushed_at=1)


def in_the_future(storage):
    return edit(storage, tip(storage), flushed_at=2**52)


def other_spelling(storage):
    for spelling in ("%C3%BC", "ü"):
        storage.put(f"refs/branch.{spelling}/ref.json", storage.get(MAIN))
    return "refs/branch.ü/ref.json"


PLANTED = [
    (put(MAIN, b"{"), FaultKind.REF_UNREADABLE, ERROR),
    (put(MAIN, b'{"other": 1}'), FaultKind.REF_UNREADABLE, ERROR),
    (put(MAIN, b'{"snapshot": "short"}'), FaultKind.REF_UNREADABLE, ERROR),
    (put("refs/README", b""), FaultKind.BAD_REF_NAME, WARNING),
    (put("refs/branch.x/ref.json.deleted", b""), FaultKind.BAD_REF_NAME, WARNING),
    (put("refs/tag.x/ref.json.deleted", b""), FaultKind.TOMBSTONE_WITHOUT_REF, WARNING),
    (put("config.yaml", b"inline_chunk_threshold_bytes: many"), FaultKind.CONFIG_UNREADABLE, ERROR),
    (other_spelling, FaultKind.DUPLICATE_REF, ERROR),
    (no_main, FaultKind.MAIN_MISSING, ERROR),
    (unknown_target, FaultKind.REF_TO_UNKNOWN_SNAPSHOT, ERROR),
    (lost_parent, FaultKind.DANGLING_PARENT, ERROR),
    (circle, FaultKind.HISTORY_CYCLE, ERROR),
    (older_child, FaultKind.PARENT_NEWER, WARNING),
    (in_the_future, FaultKind.TIME_IN_FUTURE, WARNING),
]
#: What comes along: the rest of the graph that cannot be reached, or other sides of it.
COMPANIONS = {
    FaultKind.UNREFERENCED_OBJECTS,
    FaultKind.PARENT_NEWER,  # in a circle somebody is
    FaultKind.TRANSACTION_LOG_DISAGREES,
    FaultKind.TRANSACTION_LOG_MISSING,
}


def test_the_golden_repository_is_clean(storage):
    report = check(storage)
    assert report.is_clean
    assert report.faults == ()
    assert report.spec_version == 1
    assert report.checked.snapshots == 3


@pytest.mark.parametrize(("plant", "kind", "severity"), PLANTED)
def test_planted_faults_are_found(storage, plant, kind, severity):
    key = plant(storage)
    report = check(storage)
    found = [fault for fault in report.faults if fault.kind is kind]
    assert key in {fault.key for fault in found}, report
    assert {fault.severity for fault in found} == {severity}
    assert {fault.kind for fault in report.faults} - {kind} <= COMPANIONS, report


def test_deleted_tags_are_no_refs(storage):
    storage.put("refs/tag.v1/ref.json.deleted", b"")
    storage.put("refs/tag.gone/ref.json", json.dumps({"snapshot": encode_id(bytes(12))}).encode())
    storage.put("refs/tag.gone/ref.json.deleted", b"")
    assert check(storage).faults == ()


def test_histories_that_expiration_shortened_are_clean(storage):
    """It gives the oldest snapshot that stays another parent, in place, and keeps no record."""
    edit(storage, tip(storage), parent_id=INITIAL_SNAPSHOT_ID)
    assert check(storage).faults == ()


def test_what_no_ref_leads_to_is_garbage(storage):
    storage.put("snapshots/" + encode_id(bytes(12)), storage.get(tip(storage)))
    report = check(storage)
    assert report.is_clean
    (note,) = report.faults
    assert note.key == "snapshots/"
    assert note.kind is FaultKind.UNREFERENCED_OBJECTS
