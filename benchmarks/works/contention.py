"""Many processes commit to one branch, each its own rows of one array, all at the same time.

Every commit is given a solver, so whoever loses a race rebases and tries again. Measured is what
that costs: how many attempts, how long, and, for ours, how many objects are uploaded for nothing.
In the end every commit must be in the history, and every chunk must be there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any

import zarr

import icechunk
from works.committer import CHUNK, value_of
from works.common import make_array, storage_of

COMMITTER = Path(__file__).with_name("committer.py")
PATIENCE = 1200
"""Seconds until a process that has not ended is given up."""
ALONE = 2
"""Commits made before the race, to see what a commit uploads when nobody is in its way."""


class Work:
    def __init__(
        self, folder: Path, processes: int, commits: int, storage: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.storage = folder, storage
        self.processes, self.commits = processes, commits

    def measure(self) -> dict[str, float]:
        place = fresh_place(self.folder, self.storage)
        return figures(run(place, self.processes, self.commits))


def fresh_place(folder: Path, s3: dict[str, Any] | None) -> dict[str, Any]:
    """Name a storage where nothing is yet, as `storage_of` takes it."""
    name = f"contention-{uuid.uuid4().hex}"
    return {"folder": str(folder / name)} if s3 is None else {**s3, "prefix": name}


def run(place: dict[str, Any], processes: int, commits: int) -> dict[str, Any]:
    """Let processes commit against each other in a new repository, and look at what came of it.

    Returns
    -------
    dict
        ``records`` of all commits, by the processes that made them; ``alone``, of undisturbed
        ones; ``attempts`` by message, out of the history; ``lost`` messages, which are not there
        just once, with the right data.
    """
    repo = icechunk.Repository.create(storage_of(place))
    session = repo.writable_session("main")
    make_array(session.store, (processes + 1, max(commits, ALONE)), (1, CHUNK))
    session.commit("array")
    alone = race(place, [processes], ALONE)
    records = race(place, list(range(processes)), commits)
    attempts, lost = verify(place, [record["message"] for record in (*alone, *records)])
    return {"records": records, "alone": alone, "attempts": attempts, "lost": lost}


def race(place: dict[str, Any], rows: list[int], commits: int) -> list[dict[str, Any]]:
    """Start one process per row, all at the same moment; return the records of their commits."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(COMMITTER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in rows
    ]
    try:
        for process, row in zip(processes, rows, strict=True):
            assert process.stdin is not None
            process.stdin.write(
                json.dumps({"storage": place, "row": row, "commits": commits}) + "\n"
            )
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"a committing process died with code {process.wait()}")
        with ThreadPoolExecutor(len(processes)) as pool:
            # All of them wait for this line, so they start within the time it takes to write it.
            answers = list(
                pool.map(lambda process: process.communicate("go\n", PATIENCE)[0], processes)
            )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, answer in zip(processes, answers, strict=True):
        if process.returncode or not answer:
            raise RuntimeError(f"a committing process died with code {process.returncode}")
    return [record for answer in answers for record in json.loads(answer)]


def verify(place: dict[str, Any], messages: list[str]) -> tuple[dict[str, int], list[str]]:
    """Return the attempts of every commit in the history, and the messages of those lost."""
    repo = icechunk.Repository.open(storage_of(place))
    history = list(repo.ancestry(branch="main"))
    found = [entry.message for entry in history]
    data = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")[:]
    lost = []
    for message in messages:
        row, column = map(int, message.split("."))
        chunk = data[row, column * CHUNK : (column + 1) * CHUNK]
        if found.count(message) != 1 or (chunk != value_of(row, column)).any():
            lost.append(message)
    attempts = {
        entry.message: 1 + entry.metadata.get("__icechunk", {}).get("rebase_attempts", 0)
        for entry in history
    }
    return attempts, lost


def figures(outcome: dict[str, Any]) -> dict[str, float]:
    """Reduce a race to the numbers of the table."""
    records, attempts = outcome["records"], outcome["attempts"]
    tries = sorted(attempts.get(record["message"], 1) for record in records)
    spans = [record["ended"] - record["began"] for record in records]
    numbers: dict[str, float] = {
        "total": max(r["ended"] for r in records) - min(r["began"] for r in records),
        "lost": len(outcome["lost"]),
        "attempts_p99": percentile(tries, 99),
        "attempts_most": tries[-1],
        "lost_rounds": sum(tries) - len(tries),
        "longest": max(spans),
    }
    if "uploads" in records[0]:
        numbers |= upload_figures(outcome)
    return numbers


def upload_figures(outcome: dict[str, Any]) -> dict[str, float]:
    """Count what was uploaded in vain, by commit: more than one uploads that nobody disturbs.

    That it was in vain says nothing about what is left: a refused exchange stores nothing, and the
    objects of a lost round may be deleted.
    """
    records = outcome["records"]
    needed = min(uploads_of(record) for record in outcome["alone"])
    wasted, refused, rounds = [], [], []
    for record in records:
        failed = "error" in record  # then all was in vain, the last round too
        wasted.append(uploads_of(record) - (0 if failed else needed))
        refused.append(sum(round_["outcome"] == "refused" for round_ in record["rounds"]))
        attempts = (
            len(record["rounds"]) if failed else outcome["attempts"].get(record["message"], 1) - 1
        )
        rounds.append(max(attempts, 0))
    lost = max(sum(rounds), 1)
    return {
        "uploads_needed": needed,
        "uploads_per_lost_round": sum(wasted) / lost,
        "uploads_per_lost_round_most": max(
            n / max(of, 1) for n, of in zip(wasted, rounds, strict=True)
        ),
        "stored_per_lost_round": (sum(wasted) - sum(refused)) / lost,
        "stored_per_lost_round_most": max(
            (n - no) / max(of, 1) for n, no, of in zip(wasted, refused, rounds, strict=True)
        ),
        "refused": sum(refused),
        "copies": sum(record["copies"] for record in records),
        "deletes": sum(record["deletes"] for record in records),
    }


def uploads_of(record: dict[str, Any]) -> int:
    """Count what one commit uploaded, the exchange of the state included, if refused as well."""
    return sum(record["uploads"].values())


def percentile(ordered: list[Any], percent: float) -> Any:
    """Return the least value that so many percent of all do not exceed."""
    return ordered[max(ceil(len(ordered) * percent / 100), 1) - 1]
