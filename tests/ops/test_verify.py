"""Every kind of fault, planted one at a time, is found, named with its key, and nothing else is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr

import icechunk
from icechunk.config import RepositoryConfig
from icechunk.format import schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.ids import INITIAL_SNAPSHOT_ID, decode_id, encode_id
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.manifest_files import ManifestFile
from icechunk.format.nodes import ManifestRef, NodeTable
from icechunk.format.repo_info import decode_repo_info, encode_repo_info
from icechunk.format.snapshot import decode_snapshot, encode_snapshot
from icechunk.format.transaction_log import (
    decode_transaction_log,
    encode_transaction_log,
    node_ids,
)
from icechunk.ops.verify.rules import RULES
from icechunk.storage.memory import MemoryStorage
from icechunk.verification import FaultKind, FaultSeverity

ERROR, WARNING, NOTE = FaultSeverity.ERROR, FaultSeverity.WARNING, FaultSeverity.NOTE


class Victim:
    """A small repository of everything, to be damaged."""

    def __init__(self):
        self.storage = MemoryStorage()
        config = RepositoryConfig(inline_chunk_threshold_bytes=4)
        self.repo = icechunk.Repository.create(self.storage, config)
        session = self.repo.writable_session("main")
        root = zarr.create_group(session.store)
        array = root.create_group("g").create_array(
            "a", shape=(8, 8), chunks=(4, 4), dtype="f8", compressors=None, fill_value=0
        )
        array[:] = np.arange(64).reshape(8, 8)
        root.create_array("b", shape=(4,), chunks=(2,), dtype="i2", compressors=None)[:] = 1
        self.first = session.commit("first")
        session = self.repo.writable_session("main")
        zarr.open_array(session.store, path="g/a")[:4, :4] = 7
        self.tip = session.commit("second", {"by": "me"})
        self.repo.create_tag("t", self.first)

    def check(self, **options):
        return icechunk.Repository.verify_storage(self.storage, **options)

    def edit(self, key, decode, encode, change):
        value = decode(self.storage.get(key), key)
        self.storage.put(key, encode(change(value)))

    def edit_state(self, **changes):
        def change(info):
            return replace(info, **{k: v(info) for k, v in changes.items()})

        self.edit("repo", decode_repo_info, encode_repo_info, change)

    def edit_snapshot(self, change, snapshot_id=None):
        key = f"snapshots/{snapshot_id or self.tip}"
        self.edit(key, decode_snapshot, encode_snapshot, change)
        return key

    def edit_log(self, change):
        key = f"transactions/{self.tip}"
        self.edit(key, decode_transaction_log, encode_transaction_log, change)
        return key

    def edit_node(self, path, change, files=None):
        def edited(snapshot):
            nodes = [change(node) if node.path == path else node for node in snapshot.nodes]
            listed = snapshot.manifest_files if files is None else files(snapshot)
            return replace(snapshot, nodes=NodeTable.from_nodes(nodes), manifest_files=listed)

        return self.edit_snapshot(edited)

    def edit_payload(self, key, kind, change):
        """Change a file where encoders refuse to: the bytes of its payload."""
        payload = bytearray(unwrap(self.storage.get(key), kind, key).payload)
        change(payload, Buffer(bytes(payload), key))
        self.storage.put(key, wrap(kind, payload))
        return key

    def snapshot(self, snapshot_id=None):
        key = f"snapshots/{snapshot_id or self.tip}"
        return decode_snapshot(self.storage.get(key), key)

    def manifest(self, path, snapshot_id=None):
        """Key of the manifest of an array."""
        node = self.snapshot(snapshot_id).nodes.find(path)
        return f"manifests/{encode_id(node.array.manifests[0].id)}"

    def edit_table(self, path, change, *, record=True):
        """Give an array other references, and say so in the snapshot if asked to."""
        key = self.manifest(path)
        node = self.snapshot().nodes.find(path)
        manifest = Manifest.decode(self.storage.get(key), key)
        data = encode_manifest(manifest.id, [(node.id, change(manifest.table(node.id)))])
        self.storage.put(key, data)
        if record:
            count = Manifest.decode(data, key).num_refs()

            def files(snapshot):
                new = ManifestFile(manifest.id, len(data), count)
                return [new if file.id == manifest.id else file for file in snapshot.manifest_files]

            self.edit_snapshot(lambda snapshot: replace(snapshot, manifest_files=files(snapshot)))
        return key

    def chunk(self):
        """Key of the chunk of /g/a that only the tip has."""
        key = self.manifest("/g/a")
        node = self.snapshot().nodes.find("/g/a")
        table = Manifest.decode(self.storage.get(key), key).table(node.id)
        return f"chunks/{encode_id(table.ids[0].tobytes())}"


@pytest.fixture
def victim():
    return Victim()


def with_array(**changes):
    return lambda node: replace(node, array=replace(node.array, **changes))


# --- planting: each returns the key that must be named -------------------------------------------


def no_state(victim):
    victim.storage.delete(["repo"])
    return "repo"


def cut_state(victim):
    victim.storage.put("repo", victim.storage.get("repo")[:-5])
    return "repo"


def late_spec(victim):
    key = f"snapshots/{victim.tip}"
    data = bytearray(victim.storage.get(key))
    data[36] = 3
    victim.storage.put(key, bytes(data))
    return key


def renamed_snapshot(victim):
    key = f"snapshots/{victim.tip}"
    victim.storage.put(key, victim.storage.get(f"snapshots/{victim.first}"))
    return key


def renamed_manifest(victim):
    key = victim.manifest("/g/a")
    victim.storage.put(key, victim.storage.get(victim.manifest("/b")))
    return key


def renamed_log(victim):
    key = f"transactions/{victim.tip}"
    victim.storage.put(key, victim.storage.get(f"transactions/{victim.first}"))
    return key


def edit_repo_payload(change):
    def plant(victim):
        return victim.edit_payload("repo", FileKind.REPO_INFO, change)

    return plant


def point_ref_past_the_end(payload, buffer):
    refs, _ = buffer.root(schema.REPO).tables("branches")
    places, _ = refs._locate(schema.REF["snapshot_index"], schema.REF["snapshot_index"].slot, 4)
    payload[places[0] : places[0] + 4] = (99).to_bytes(4, "little")


def set_parents(*parents):
    def change(payload, buffer):
        rows, _ = buffer.root(schema.REPO).tables("snapshots")
        field = schema.SNAPSHOT_INFO["parent_offset"]
        places, _ = rows._locate(field, field.slot, 4)
        for place, parent in zip(places, parents, strict=False):
            payload[place : place + 4] = parent.to_bytes(4, "little", signed=True)

    return change


def older_child(victim):
    def change(info):
        times = info.snapshots.flushed_at.copy()
        times[info.snapshots.row(decode_id(victim.tip))] = 1
        return replace(info.snapshots, flushed_at=times)

    victim.edit_state(snapshots=change)
    victim.edit_snapshot(lambda snapshot: replace(snapshot, flushed_at=1))
    return "repo"


def future_snapshot(victim):
    late = 2**52

    def change(info):
        times = info.snapshots.flushed_at.copy()
        times[info.snapshots.row(decode_id(victim.tip))] = late
        return replace(info.snapshots, flushed_at=times)

    victim.edit_state(snapshots=change)
    victim.edit_snapshot(lambda snapshot: replace(snapshot, flushed_at=late))
    return "repo"


def another_message(victim):
    return victim.edit_snapshot(lambda snapshot: replace(snapshot, message="other"))


def bad_metadata(victim):
    def change(info):
        table = info.snapshots
        values = table.metadata_values
        return replace(table, metadata_values=type(values).from_list([b"\xff"] * len(values)))

    victim.edit_state(snapshots=change)
    return "repo"


def bad_config(victim):
    victim.edit_state(config=lambda info: b"\xff\xff\xff")
    return "repo"


def no_operations_in_order(victim):
    def change(info):
        log = info.updates
        return replace(log, updated_at=log.updated_at[[0, 2, 1, 3]])

    victim.edit_state(updates=change)
    return "repo"


def future_operation(victim):
    def change(info):
        log = info.updates
        times = log.updated_at.copy()
        times[0] = 2**52
        return replace(log, updated_at=times)

    victim.edit_state(updates=change)
    return "repo"


def lost_backup(victim):
    name = sorted(info.key for info in victim.storage.list("overwritten"))[0]  # the newest
    victim.storage.delete([name])
    return name


def lost_oldest_backup(victim):
    victim.storage.delete([sorted(info.key for info in victim.storage.list("overwritten"))[-1]])
    return "repo"


def delete(key_of):
    def plant(victim):
        key = key_of(victim)
        victim.storage.delete([key])
        return key

    return plant


def cut(key_of):
    def plant(victim):
        key = key_of(victim)
        victim.storage.put(key, victim.storage.get(key)[:-1])
        return key

    return plant


def snapshot_of(victim):
    return f"snapshots/{victim.tip}"


def log_of(victim):
    return f"transactions/{victim.tip}"


def manifest_of(victim):
    return victim.manifest("/g/a")


def unsorted_nodes(victim):
    def change(payload, buffer):
        nodes = buffer.root(schema.SNAPSHOT).spans("nodes")[0]
        start = int(nodes[0])
        exchange(payload, start)

    return victim.edit_payload(snapshot_of(victim), FileKind.SNAPSHOT, change)


def path_twice(victim):
    def change(payload, buffer):
        start = int(buffer.root(schema.SNAPSHOT).spans("nodes")[0][0])
        one = int.from_bytes(payload[start : start + 4], "little")
        payload[start + 4 : start + 8] = (one - 4).to_bytes(4, "little")

    return victim.edit_payload(snapshot_of(victim), FileKind.SNAPSHOT, change)


def unsorted_refs(victim):
    def change(payload, buffer):
        arrays, _ = buffer.root(schema.MANIFEST).tables("arrays")
        start = int(arrays.spans("refs")[0][0])
        exchange(payload, start)

    key = victim.edit_payload(manifest_of(victim), FileKind.MANIFEST, change)
    set_size(victim, key, len(victim.storage.get(key)))
    return key


def first_log_of(victim):
    return f"transactions/{encode_id(INITIAL_SNAPSHOT_ID)}"


def no_backup_key(victim):
    """A name that cannot be one, in the log."""

    def change(payload, buffer):
        name = max(info.key for info in victim.storage.list("overwritten")).rpartition("/")[2]
        payload[payload.index(name.encode())] = 0

    return victim.edit_payload("repo", FileKind.REPO_INFO, change)


def unsorted_arrays(victim):
    """A manifest of two arrays in the wrong order."""
    one, other = (victim.snapshot().nodes.find(path) for path in ("/g/a", "/b"))
    key = victim.manifest("/g/a")
    manifest = Manifest.decode(victim.storage.get(key), key)
    foreign = Manifest.decode(victim.storage.get(victim.manifest("/b")), "").table(other.id)
    arrays = [(one.id, manifest.table(one.id)), (other.id, foreign)]
    victim.storage.put(key, encode_manifest(manifest.id, arrays))

    def change(payload, buffer):
        start = int(buffer.root(schema.MANIFEST).spans("arrays")[0][0])
        exchange(payload, start)

    victim.edit_payload(key, FileKind.MANIFEST, change)
    set_size(victim, key, len(victim.storage.get(key)), 6)
    return key


def exchange(payload, start):
    """Exchange the first two offsets of a vector, which are relative to where they stand."""
    one, other = (int.from_bytes(payload[start + at : start + at + 4], "little") for at in (0, 4))
    payload[start : start + 4] = (other + 4).to_bytes(4, "little")
    payload[start + 4 : start + 8] = (one - 4).to_bytes(4, "little")


def same_node_id(victim):
    other = victim.snapshot().nodes.find("/g").id
    return victim.edit_node("/", lambda node: replace(node, id=other))


def bad_path(victim):
    def change(snapshot):
        nodes = [replace(n, path="/g//c") if n.path == "/b" else n for n in snapshot.nodes]
        return replace(snapshot, nodes=NodeTable.from_nodes(nodes))

    return victim.edit_snapshot(change)


def no_parent_group(victim):
    def change(snapshot):
        nodes = [replace(n, path="/x/b") if n.path == "/b" else n for n in snapshot.nodes]
        return replace(snapshot, nodes=NodeTable.from_nodes(nodes))

    return victim.edit_snapshot(change)


def below_an_array(victim):
    def change(snapshot):
        nodes = [replace(n, path="/g/a/b") if n.path == "/b" else n for n in snapshot.nodes]
        return replace(snapshot, nodes=NodeTable.from_nodes(nodes))

    return victim.edit_snapshot(change)


def bad_document(victim):
    return victim.edit_node("/g/a", lambda node: replace(node, user_data=b"{"))


def other_shape(victim):
    def change(node):
        document = json.loads(node.user_data)
        document["shape"] = [9, 8]
        return replace(node, user_data=json.dumps(document).encode())

    return victim.edit_node("/g/a", change)


def other_type(victim):
    group = victim.snapshot().nodes.find("/g").user_data
    return victim.edit_node("/g/a", lambda node: replace(node, user_data=group))


def set_size(victim, key, size=None, count=None):
    wanted = decode_id(key.rpartition("/")[2])

    def change(snapshot):
        files = [
            ManifestFile(
                file.id,
                file.size_bytes if size is None else size,
                file.num_chunk_refs if count is None else count,
            )
            if file.id == wanted
            else file
            for file in snapshot.manifest_files
        ]
        return replace(snapshot, manifest_files=files)

    victim.edit_snapshot(change)


def small_size(victim):
    key = manifest_of(victim)
    set_size(victim, key, size=10)
    return key


def large_size(victim):
    key = manifest_of(victim)
    set_size(victim, key, size=10**6)
    return key


def wrong_count(victim):
    key = manifest_of(victim)
    set_size(victim, key, count=99)
    return key


def edit_manifest_ids(victim, used, listed):
    """Exchange the id of a manifest in the list or in the array, which encoders refuse."""
    old = decode_id(manifest_of(victim).rpartition("/")[2])

    def change(payload, buffer):
        at = [i for i in range(len(payload)) if payload.startswith(old, i)]
        root = buffer.root(schema.SNAPSHOT)
        infos, _ = root.tables("manifest_files_v2")
        field = schema.MANIFEST_FILE_INFO_V2["id"]
        in_list = set(infos._locate(field, field.slot, 12)[0].tolist())
        for place in at:
            if place in in_list if listed else place not in in_list:
                payload[place : place + 12] = used

    return victim.edit_payload(snapshot_of(victim), FileKind.SNAPSHOT, change)


def unlisted_manifest(victim):
    return edit_manifest_ids(victim, bytes(12), listed=True)


def overlapping_alike(victim):
    """Twice the same, as Icechunk 1.1 leaves it behind."""
    (old,) = victim.snapshot().nodes.find("/g/a").array.manifests
    return victim.edit_node("/g/a", with_array(manifests=(old, old)))


def overlapping_otherwise(victim):
    """The manifest of the tip over the one of the first commit, which differs in one chunk."""
    (old,) = victim.snapshot(victim.first).nodes.find("/g/a").array.manifests
    (new,) = victim.snapshot().nodes.find("/g/a").array.manifests
    listed = [*victim.snapshot(victim.first).manifest_files, *victim.snapshot().manifest_files]
    return victim.edit_node("/g/a", with_array(manifests=(new, old)), lambda _: listed)


def foreign_manifest(victim):
    other = victim.snapshot().nodes.find("/b").array.manifests[0]
    old = victim.snapshot().nodes.find("/g/a").array.manifests[0]
    refs = (old, ManifestRef(other.id, ((5, 6), (5, 6))))
    victim.edit_node("/g/a", with_array(manifests=refs))
    return f"manifests/{encode_id(other.id)}"


def tight_extents(victim):
    old = victim.snapshot().nodes.find("/g/a").array.manifests[0]
    refs = (replace(old, extents=((0, 1), (0, 2))),)
    victim.edit_node("/g/a", with_array(manifests=refs))
    return manifest_of(victim)


def other_rank(victim):
    def change(table):
        return table.with_coords(np.arange(len(table)).reshape(-1, 1))

    return victim.edit_table("/g/a", change)


def beyond_the_grid(victim):
    def change(table):
        coords = table.coords.copy()
        coords[-1] = (7, 7)
        return table.with_coords(coords)

    return victim.edit_table("/g/a", change)


def no_bytes(victim):
    def change(table):
        lengths = table.lengths.copy()
        lengths[0] = 0
        return replace(table, lengths=lengths)

    return victim.edit_table("/g/a", change)


def past_the_end(victim):
    def change(table):
        offsets = np.zeros(len(table), np.uint64)
        offsets[0] = 1
        return replace(table, offsets=offsets)

    key = victim.chunk()
    victim.edit_table("/g/a", change)
    return key


def past_all_numbers(victim):
    def change(table):
        offsets = np.zeros(len(table), np.uint64)
        offsets[0] = 2**64 - 1
        return replace(table, offsets=offsets)

    key = victim.chunk()
    victim.edit_table("/g/a", change)
    return key


def lying_log(victim):
    return victim.edit_log(lambda log: replace(log, new_groups=node_ids([b"newgroup"])))


def silent_log(victim):
    key = f"transactions/{victim.tip}"
    session = victim.repo.writable_session("main")
    zarr.open_group(session.store).create_group("new")
    victim.tip = session.commit("third")
    key = f"transactions/{victim.tip}"
    victim.edit_log(lambda log: replace(log, new_groups=node_ids()))
    return key


def garbage(victim):
    victim.storage.put(f"chunks/{encode_id(bytes(12))}", b"123")
    return "chunks/"


def stranger(victim):
    victim.storage.put("manifests/README", b"123")
    return "manifests/README"


def unordered_branches(victim):
    for name in ("zz", "aa"):
        victim.repo.create_branch(name, victim.first)

    def change(payload, buffer):
        start = int(buffer.root(schema.REPO).spans("branches")[0][0])
        exchange(payload, start)

    return victim.edit_payload("repo", FileKind.REPO_INFO, change)


def same_name_twice(victim):
    victim.repo.create_branch("other", victim.first)

    def change(payload, buffer):
        start = int(buffer.root(schema.REPO).spans("branches")[0][0])
        one = int.from_bytes(payload[start : start + 4], "little")
        payload[start + 4 : start + 8] = (one - 4).to_bytes(4, "little")

    return victim.edit_payload("repo", FileKind.REPO_INFO, change)


def no_main(victim):
    def change(payload, buffer):
        at = payload.index(b"\x04\0\0\0main") + 4
        payload[at : at + 4] = b"name"

    return victim.edit_payload("repo", FileKind.REPO_INFO, change)


PLANTED = [
    (no_state, FaultKind.REPOSITORY_OBJECT_MISSING, ERROR),
    (cut_state, FaultKind.CORRUPT_FILE, ERROR),
    (edit_repo_payload(point_ref_past_the_end), FaultKind.REF_TO_UNKNOWN_SNAPSHOT, ERROR),
    (edit_repo_payload(set_parents(99)), FaultKind.DANGLING_PARENT, ERROR),
    (edit_repo_payload(set_parents(1, 2, 0)), FaultKind.HISTORY_CYCLE, ERROR),
    (same_name_twice, FaultKind.DUPLICATE_REF, ERROR),
    (unordered_branches, FaultKind.UNSORTED, WARNING),
    (no_main, FaultKind.MAIN_MISSING, ERROR),
    (older_child, FaultKind.PARENT_NEWER, WARNING),
    (future_snapshot, FaultKind.TIME_IN_FUTURE, WARNING),
    (another_message, FaultKind.HISTORY_DISAGREES, WARNING),
    (bad_metadata, FaultKind.HISTORY_METADATA_UNREADABLE, WARNING),
    (bad_config, FaultKind.CONFIG_UNREADABLE, ERROR),
    (no_operations_in_order, FaultKind.OPERATIONS_LOG_DISORDER, WARNING),
    (future_operation, FaultKind.TIME_IN_FUTURE, WARNING),
    (lost_backup, FaultKind.BACKUP_MISSING, WARNING),
    (lost_oldest_backup, FaultKind.OPERATIONS_LOG_CUT, NOTE),
    (no_backup_key, FaultKind.OPERATIONS_LOG_CUT, NOTE),
    (late_spec, FaultKind.UNSUPPORTED_VERSION, ERROR),
    (renamed_snapshot, FaultKind.ID_MISMATCH, ERROR),
    (renamed_manifest, FaultKind.ID_MISMATCH, ERROR),
    (renamed_log, FaultKind.ID_MISMATCH, WARNING),
    (delete(snapshot_of), FaultKind.SNAPSHOT_MISSING, ERROR),
    (cut(snapshot_of), FaultKind.CORRUPT_FILE, ERROR),
    (unsorted_nodes, FaultKind.UNSORTED_NODES, ERROR),
    (path_twice, FaultKind.DUPLICATE_PATH, ERROR),
    (same_node_id, FaultKind.DUPLICATE_NODE_ID, WARNING),
    (bad_path, FaultKind.BAD_PATH, WARNING),
    (no_parent_group, FaultKind.PARENT_GROUP_MISSING, NOTE),
    (below_an_array, FaultKind.BELOW_AN_ARRAY, NOTE),
    (bad_document, FaultKind.DOCUMENT_INVALID, ERROR),
    (other_shape, FaultKind.DOCUMENT_DISAGREES, ERROR),
    (other_type, FaultKind.DOCUMENT_DISAGREES, ERROR),
    (unlisted_manifest, FaultKind.MANIFEST_NOT_LISTED, ERROR),
    (unlisted_manifest, FaultKind.MANIFEST_LISTED_IN_VAIN, WARNING),
    (overlapping_alike, FaultKind.EXTENTS_OVERLAP, NOTE),
    (overlapping_otherwise, FaultKind.EXTENTS_OVERLAP, ERROR),
    (foreign_manifest, FaultKind.NODE_NOT_IN_MANIFEST, WARNING),
    (tight_extents, FaultKind.EXTENTS_TOO_SMALL, ERROR),
    (delete(manifest_of), FaultKind.MANIFEST_MISSING, ERROR),
    (cut(manifest_of), FaultKind.CORRUPT_FILE, ERROR),
    (small_size, FaultKind.MANIFEST_SIZE_WRONG, ERROR),
    (large_size, FaultKind.MANIFEST_SIZE_WRONG, WARNING),
    (wrong_count, FaultKind.MANIFEST_COUNT_WRONG, WARNING),
    (unsorted_arrays, FaultKind.UNSORTED, WARNING),
    (unsorted_refs, FaultKind.UNSORTED_REFERENCES, ERROR),
    (other_rank, FaultKind.RANK_WRONG, ERROR),
    (beyond_the_grid, FaultKind.REFERENCES_BEYOND_GRID, NOTE),
    (no_bytes, FaultKind.ZERO_LENGTH_CHUNK, WARNING),
    (delete(Victim.chunk), FaultKind.CHUNK_MISSING, ERROR),
    (cut(Victim.chunk), FaultKind.CHUNK_TOO_SHORT, ERROR),
    (past_the_end, FaultKind.CHUNK_TOO_SHORT, ERROR),
    (past_all_numbers, FaultKind.CHUNK_TOO_SHORT, ERROR),
    (delete(log_of), FaultKind.TRANSACTION_LOG_MISSING, WARNING),
    (delete(first_log_of), FaultKind.TRANSACTION_LOG_MISSING, NOTE),
    (cut(log_of), FaultKind.CORRUPT_FILE, WARNING),
    (lying_log, FaultKind.TRANSACTION_LOG_DISAGREES, WARNING),
    (silent_log, FaultKind.TRANSACTION_LOG_DISAGREES, WARNING),
    (garbage, FaultKind.UNREFERENCED_OBJECTS, NOTE),
    (stranger, FaultKind.FOREIGN_OBJECT, NOTE),
]

#: What comes along with a fault: other sides of it, and what can no longer be reached.
COMPANIONS = {
    FaultKind.MANIFEST_NOT_LISTED: {
        FaultKind.MANIFEST_LISTED_IN_VAIN,
        FaultKind.MANIFEST_MISSING,  # of the id that stands in its place
    },
    FaultKind.MANIFEST_LISTED_IN_VAIN: {
        FaultKind.MANIFEST_NOT_LISTED,
        FaultKind.MANIFEST_MISSING,
    },
    FaultKind.DUPLICATE_NODE_ID: {FaultKind.TRANSACTION_LOG_DISAGREES},
}


def name_of(case):
    return getattr(case, "__name__", str(case))


def test_an_honest_repository_is_clean(victim):
    report = victim.check(read_chunks=True, decode_chunks=True, virtual=True)
    assert report.is_clean
    assert report.faults == ()
    assert report.exit_status == 0
    assert report.checked.snapshots == 3
    assert report.checked.references == 10
    assert report.checked.chunk_objects == 5


@pytest.mark.parametrize(("plant", "kind", "severity"), PLANTED, ids=name_of)
def test_planted_faults_are_found(victim, plant, kind, severity):
    key = plant(victim)
    report = victim.check()
    found = [fault for fault in report.faults if fault.kind is kind]
    assert key in {fault.key for fault in found}, report
    assert {fault.severity for fault in found} == {severity}, report
    others = {fault.kind for fault in report.faults} - {kind, FaultKind.UNREFERENCED_OBJECTS}
    assert others <= COMPANIONS.get(kind, set()), report
    assert report.exit_status == {ERROR: 2, WARNING: 1, NOTE: 0}[report.faults[0].severity]
    assert report.counts[kind] == len(found)
    assert all(fault.message and fault.remedy for fault in found)


def test_every_kind_has_a_rule():
    assert set(RULES) == set(FaultKind)
