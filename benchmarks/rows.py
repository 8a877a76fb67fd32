"""The works to measure and the rows they make in the table: what is compared and what is demanded.

Data only, for the standard library: the orchestrator reads it with any Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS, REFERENCE, PLAIN = "ours", "reference", "plain zarr"
OURS_INTERPRETER = "{ours}"
"""Stands for our interpreter in parameters."""
S3_SERVER = "{s3}"
"""Stands for the S3 server in parameters; without one the work is left out."""

FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"


@dataclass(frozen=True)
class Row:
    """One line of the table, made of one measurement of a work."""

    title: str
    measurement: str
    unit: str = "s"
    at_least: float | None = None
    """Demanded: the reference's value divided by ours is no less."""
    at_most: float | None = None
    """Demanded: our value is no more, in the row's unit."""
    against: str = REFERENCE
    """Whose value stands beside ours."""
    as_multiple: bool = False
    """`at_most` is a multiple of the other's value instead."""


@dataclass(frozen=True)
class Work:
    """What is set up once per side and measured alternately."""

    name: str
    module: str
    rows: tuple[Row, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of a quick run, instead of those above."""
    sides: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {OURS: {}, REFERENCE: {}}
    )
    """Who takes part, each with parameters of its own."""
    pipeline: str | None = None
    """Zarr's codec pipeline, if not the one it uses by default."""
    runs: int | None = None
    """How often to measure, if not as often as time allows."""


MILLION = {"count": 1_000_000}
TENTH = {"count": 100_000}


def through_zarr(
    name: str, what: str, count: int, size: int, write: float | None, read: float | None
) -> tuple[Work, ...]:
    """Make the works that write and read an array: with the fused pipeline, and by default.

    The fused pipeline is the one that calls a store's synchronous methods, and the one that is
    demanded; the default one stands beside it.
    """
    works = []
    for label, suffix, pipeline in (("fused", "", FUSED), ("default", "-default", None)):
        rows = tuple(
            Row(
                f"{verb} {what}, {label} pipeline",
                verb,
                at_least=least if pipeline else None,
            )
            for verb, least in (("write", write), ("read", read))
            if least is not None
        )
        works.append(
            Work(
                name + suffix,
                "chunks",
                rows,
                {"count": count, "size": size},
                {"count": max(count // 5, 16), "size": size},
                pipeline=pipeline,
            )
        )
    return tuple(works)


def contention(name: str, where: str, storage: Mapping[str, Any]) -> Work:
    """Make the work of processes that commit to one branch at the same time."""
    return Work(
        name,
        "contention",
        (
            Row(f"{{processes}} processes commit {{commits}} times each, {where}", "total"),
            Row("  commits lost", "lost", "commits", at_most=0),
            Row("  attempts of a commit, 99th percentile", "attempts_p99", "tries", at_most=5),
            Row("  attempts of a commit, most", "attempts_most", "tries"),
            Row("  longest commit", "longest", at_most=60),
            Row("  lost rounds", "lost_rounds", "rounds"),
            Row("  objects stored per lost round", "stored_per_lost_round", "objects", at_most=3),
            Row("  same, most in one commit", "stored_per_lost_round_most", "objects", at_most=3),
            Row("  same, with refused exchanges", "uploads_per_lost_round", "uploads"),
        ),
        {"processes": 20, "commits": 20, **storage},
        {"processes": 8, "commits": 5, **storage},
        runs=1,
    )


STORE_DASK = "store_dask, {tasks} tasks of 4 chunks of 4 kB, 2 processes"


OVER = "over {commits} commits of {chunks} chunks"


WORKS: tuple[Work, ...] = (
    Work(
        "encode",
        "encode_manifest",
        (
            Row("build a manifest of native refs, per ref", "build_per_ref", "us", at_most=0.4),
            Row("compress it (zstd level 3), per ref", "zstd_per_ref", "us"),
        ),
        MILLION,
        TENTH,
        sides={OURS: {}},
    ),
    Work(
        "commit-native",
        "commit_native",
        (
            Row("commit {count} new native refs, memory", "commit", at_least=3),
            Row("  its manifest", "manifest_bytes", "MB"),
        ),
        MILLION,
        {"count": 80_000},
    ),
    Work(
        "shift",
        "shift",
        (
            Row("shift an array of {count} native refs, local disk", "shift", at_least=3),
            Row("commit the shifted array", "commit"),
        ),
        MILLION,
        TENTH,
        sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
    ),
    *(
        Work(
            f"commit-virtual{suffix}",
            "commit_virtual",
            (
                Row(f"commit {{count}} new virtual refs, {what}", "commit", at_least=3),
                Row("  its manifest", "manifest_bytes", "MB"),
            ),
            {**MILLION, "per_file": per_file},
            {**TENTH, "per_file": per_file},
        )
        for suffix, what, per_file in (
            ("", "100 per file, local disk", 100),
            ("-scattered", "each in its own file, local disk", 1),
        )
    ),
    *(
        Work(
            f"set-virtual{suffix}",
            "set_virtual",
            (
                Row(
                    f"set {{count}} virtual refs as columns and commit, {what}",
                    "arrays",
                    at_least=5,
                ),
                Row("  of it to set them", "arrays_set"),
                Row(f"make, set, commit {{count}} as objects, {what}", "objects", at_least=1.5),
                Row("  of it to make them", "objects_make"),
                Row("  of it to set them", "objects_set"),
            ),
            {**MILLION, "per_file": per_file},
            {**TENTH, "per_file": per_file},
        )
        for suffix, what, per_file in (
            ("", "100 per file", 100),
            ("-scattered", "each in its own file", 1),
        )
    ),
    *(
        Work(
            f"commit-few-{kind}",
            "commit_few",
            (
                Row(f"commit 10 chunks over {{count}} {kind} refs", "commit", at_least=3),
                Row(f"open cold, read one chunk of {{count}}, rest {kind}", "read", at_least=1),
            ),
            {**MILLION, "kind": kind},
            {**TENTH, "kind": kind},
            sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
        )
        for kind in ("native", "virtual")
    ),
    Work(
        "rewrite",
        "rewrite",
        (
            Row("rewrite_manifests, {count} native refs", "rewrite"),
            Row("amend a commit of one chunk, {count} native refs", "amend_small"),
            Row("amend the commit of {count} native refs", "amend_large"),
        ),
        {**MILLION, "kind": "native"},
        {**TENTH, "kind": "native"},
        sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
    ),
    Work(
        "verify",
        "verify",
        (Row("verify {count} native chunks, local disk", "verify", at_most=20),),
        MILLION,
        TENTH,
        sides={OURS: {}},
        runs=3,
    ),
    Work(
        "garbage",
        "garbage",
        (
            Row("find garbage among {count} chunk objects, local disk", "find", at_least=3),
            Row("  processor time, with start and imports", "cpu"),
            Row("  peak memory of the process", "peak", "MB", at_most=500),
        ),
        {**MILLION, "manifests": 50, "snapshots": 200},
        {**TENTH, "manifests": 10, "snapshots": 50},
        sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
        runs=3,
    ),
    Work(
        "versions",
        "versions",
        (
            Row(f"rebase {OVER}, none in conflict", "clean", at_least=3),
            Row(f"rebase {OVER}, all in conflict, keep ours", "ours", at_least=3),
            Row(f"rebase {OVER}, all in conflict, keep theirs", "theirs", at_least=3),
            Row(f"diff {OVER}", "diff", at_least=3),
            Row("  with the coordinates of all chunks", "diff_listed"),
        ),
        {"commits": 200, "chunks": 1000},
        {"commits": 50, "chunks": 1000},
        sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
    ),
    Work(
        "history",
        "history",
        (
            Row("ancestry of {snapshots} commits, opened cold", "ancestry", at_most=0.5),
            Row("commit one chunk to {snapshots} snapshots, opened cold", "commit", at_least=2),
        ),
        {"snapshots": 10_000},
        {"snapshots": 10_000},
        sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
    ),
    contention("contention-local", "local disk", {}),
    contention("contention-s3", "S3", {"storage": S3_SERVER}),
    *through_zarr("inline", "{count} inline chunks of 256 B", 10_000, 256, 2.5, 2),
    *through_zarr("native", "{count} chunks of 1 kB, local disk", 10_000, 1000, 1.5, 2),
    *through_zarr("medium", "{count} chunks of 128 kB, local disk", 2000, 128 * 1024, 2, 2.5),
    *through_zarr("large", "{count} chunks of 4 MB, local disk", 64, 4 * 1024 * 1024, None, 2),
    *(
        Work(
            f"distant{suffix}",
            "distant",
            tuple(
                Row(
                    f"{verb} {{count}} chunks of 64 kB, S3 {{latency_ms}} ms away, {what}",
                    verb,
                    at_most=1.2,
                    as_multiple=True,
                )
                for verb in ("write", "read")
            ),
            {"count": 2000, "size": 64 * 1024, "latency_ms": 20, "at_once": at_once},
            {"count": 300, "size": 64 * 1024, "latency_ms": 20, "at_once": at_once},
            sides={OURS: {"ours": OURS_INTERPRETER}, REFERENCE: {"ours": OURS_INTERPRETER}},
        )
        for suffix, what, at_once in (("", "10 at once", 10), ("-many", "100 at once", 100))
    ),
    Work(
        "forks",
        "forks",
        (
            Row("pickle, unpickle and merge {forks} forks of {chunks} refs", "merge", at_least=1),
            Row("  size of a pickled fork, per native ref", "bytes_per_ref", "B", at_most=32),
        ),
        {"forks": 100, "chunks": 2000},
        {"forks": 20, "chunks": 2000},
    ),
    Work(
        "dask",
        "dask_store",
        (
            Row(f"{STORE_DASK}, vs plain Zarr", "store", "s", None, 1.25, PLAIN, as_multiple=True),
            Row(STORE_DASK, "store"),
        ),
        {"tasks": 1000},
        {"tasks": 200},
        sides={
            OURS: {"target": "icechunk"},
            PLAIN: {"target": "zarr"},
            REFERENCE: {"target": "icechunk"},
        },
        pipeline=FUSED,
    ),
    Work(
        "memory",
        "peak_memory",
        (
            Row("peak memory, {count} refs built and committed", "with_refs", "MB", at_most=400),
            Row("  of the commit alone", "commit_alone", "MB"),
        ),
        MILLION,
        TENTH,
        sides={OURS: {}},
    ),
    Work(
        "memory-workers",
        "worker_memory",
        (
            Row(
                "peak memory of a worker, {workers} of them write {count} refs of 100 kB",
                "most",
                "MB",
                at_most=300,
            ),
            Row("  of the one that needs least", "least", "MB"),
        ),
        {**MILLION, "workers": 8},
        {**TENTH, "workers": 8},
        sides={OURS: {}},
    ),
)
