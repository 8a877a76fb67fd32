"""Repositories made by hand: snapshots of given manifests of given chunks."""

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.settings import AssetSettings
from icechunk.chunks import ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.manifest_files import ManifestFile
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.ops_log import RepoInitialized, UpdateEntry
from icechunk.format.repo_info import RepoInfo, SnapshotEntry, SnapshotTable
from icechunk.format.snapshot import Snapshot
from icechunk.storage.memory import MemoryStorage


class Counting(MemoryStorage):
    def __init__(self, is_local):
        super().__init__()
        self.is_local = is_local
        self.reads = []

    def get(self, key):
        self.reads.append(key)
        return super().get(key)

    def get_range(self, key, start, end):
        self.reads.append(key)
        return super().get_range(key, start, end)


def oid(*numbers):
    return bytes(numbers).ljust(12, b"\0")


def nid(number):
    return bytes([number]) * 8


def native(ids, lengths):
    coords = np.arange(len(ids)).reshape(-1, 1)
    return ChunkTable.native(coords, b"".join(ids), lengths)


def virtual(rows):
    places, offsets, lengths = zip(*rows, strict=True)
    coords = np.arange(len(rows)).reshape(-1, 1)
    return ChunkTable.virtual(coords, RaggedBytes.from_strings(places), offsets, lengths)


def inline(*values):
    coords = np.arange(len(values)).reshape(-1, 1)
    return ChunkTable.inline_(coords, RaggedBytes.from_list(values))


class Repo:
    """A hand-made history: snapshots of given manifests."""

    def __init__(self, is_local=True):
        self.storage = Counting(is_local)
        self.writer = AssetManager(self.storage, AssetSettings())
        self.assets = AssetManager(self.storage, AssetSettings())
        self.files = {}
        self.contents = {}
        self.entries = []

    def manifest(self, number, *tables, nodes=None):
        """Write a manifest of tables of some arrays, by default of the arrays 0, 1 and so on."""
        contents = dict(zip(nodes or range(len(tables)), tables, strict=True))
        arrays = [(nid(node), table) for node, table in contents.items()]
        size = self.writer.save_manifest(oid(number), arrays)
        self.files[number] = ManifestFile(oid(number), size, sum(map(len, tables)))
        self.contents[number] = contents

    def snapshot(self, number, parent, *manifests):
        """Write a snapshot of all arrays that its manifests hold."""
        refs = {}
        for manifest in manifests:
            for node in self.contents[manifest]:
                refs.setdefault(node, []).append(ManifestRef(oid(manifest), ((0, 9),)))
        nodes = NodeTable.from_nodes(
            Node(nid(node), f"/n{node}", b"{}", ArrayData((9,), (9,), None, tuple(its)))
            for node, its in refs.items()
        )
        files = [self.files[m] for m in manifests]
        now = int(self.storage.put("clock", b"") is not None) or 1
        if not self.storage.is_local:
            now = self.storage.head("clock").last_modified_us
        self.writer.save_snapshot(Snapshot(oid(number), None, nodes, now, "", {}, files))
        self.entries.append(
            SnapshotEntry(oid(number), None if parent is None else oid(parent), number, "")
        )

    def info(self, tags=(), **branches):
        return RepoInfo(
            SnapshotTable.from_entries(self.entries),
            {name: oid(number) for name, number in branches.items()},
            {f"t{number}": oid(number) for number in tags},
            updates=[UpdateEntry(RepoInitialized(), 1)],
        )
