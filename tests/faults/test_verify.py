"""What is damaged is reported, whatever the damage; what a failed commit leaves is no damage."""

import random
import threading
from pathlib import Path

import pytest
import zarr

import icechunk
from icechunk.errors import IcechunkError
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.storage.memory import MemoryStorage
from icechunk.testing import FaultyStorage

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = {
    "repo": FileKind.REPO_INFO,
    "overwritten": FileKind.REPO_INFO,
    "snapshots": FileKind.SNAPSHOT,
    "manifests": FileKind.MANIFEST,
    "transactions": FileKind.TRANSACTION_LOG,
}


def golden(name):
    """Read the files of a repository that the reference wrote."""
    folder = GOLDEN / name
    files = folder.rglob("*")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.is_file()}


def stored(files):
    storage = MemoryStorage()
    for key, data in files.items():
        storage.put(key, data)
    return storage


def verified(storage):
    return icechunk.Repository.verify_storage(storage, decode_chunks=True, read_backups=True)


@pytest.mark.parametrize("name", ["reference-v1", "reference-v2"])
def test_golden_repositories_are_clean(name):
    assert verified(stored(golden(name))).faults == ()


@pytest.mark.parametrize("name", ["reference-v1", "reference-v2"])
def test_every_file_that_is_missing_or_cut_is_noticed(name):
    files = golden(name)
    for key, data in files.items():
        if key.startswith("refs/tag"):  # nobody knows of a tag but its file
            continue
        cut = verified(stored({**files, key: data[:-1]}))
        assert not cut.is_clean, key
        missing = verified(stored({k: v for k, v in files.items() if k != key}))
        assert missing.faults, key


@pytest.mark.parametrize("name", ["reference-v1", "reference-v2"])
def test_any_damage_ends_in_a_report(name, effort):
    """Bytes of payloads are changed at random: of the verification itself nothing may fail."""
    files, chance = golden(name), random.Random(name)
    damaged = [key for key in files if key.partition("/")[0] in KINDS]
    noticed = 0
    for _ in range(30 * effort):
        key = chance.choice(damaged)
        kind = KINDS[key.partition("/")[0]]
        payload = bytearray(unwrap(files[key], kind, key).payload)
        payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
        data = wrap(kind, bytes(payload), spec_version=files[key][36])
        report = verified(stored({**files, key: data}))
        assert report.to_json()
        noticed += not report.is_clean
    assert noticed > 8 * effort


def commit(repo):
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="a", shape=(8,), chunks=(2,), dtype="u1", overwrite=True)[
        :
    ] = 1
    return session.commit("written")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_commits_leave_garbage_and_no_damage(after):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    fail_at = left = 0
    while True:
        inner = MemoryStorage()
        commit(icechunk.Repository.create(inner, config))
        faulty = FaultyStorage(inner, fail_at=fail_at, after=after, sticky=True)
        try:
            commit(icechunk.Repository.open(faulty))
        except IcechunkError:
            pass
        else:
            break
        report = verified(inner)
        assert report.is_clean, report
        left += report.notes
        fail_at += 1
    assert fail_at > 5
    assert left > 0, "nothing was left behind by any of them"


def test_many_commit_while_we_verify(tmp_path):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    repo = icechunk.Repository.create(storage, config)
    commit(repo)
    done = threading.Event()

    def write():
        try:
            for _ in range(12):
                commit(icechunk.Repository.open(storage))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    rounds = 0
    while not done.is_set():
        report = repo.verify()
        assert report.is_clean, report
        rounds += 1
    writer.join()
    assert rounds > 0
    assert repo.verify().faults == ()
