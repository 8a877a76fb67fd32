"""Let processes commit against each other and print how rounds, waits and uploads spread.

    python benchmarks/contention.py --folder /some/disk       # on local disk
    python benchmarks/contention.py --s3                      # on the server that variables name
    python benchmarks/contention.py --processes 8 --commits 5 --json out.json --folder /some/disk

For tuning; with the interpreter of either side. What is measured is told in `works/contention.py`
and `works/trace.py`. The server is named by ICECHUNK_BENCH_S3_ENDPOINT, _BUCKET, _KEY and _SECRET,
see README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s3 import named_server

BENCHMARKS = Path(__file__).resolve().parent


def main() -> int:
    """Run once and print; the exit code tells whether a commit was lost."""
    options = parse_arguments()
    from works.contention import figures, fresh_place, run

    server = named_server() if options.s3 else None
    if options.s3 and server is None:
        print("no server: see README.md", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="icechunk-contention-", dir=options.folder) as folder:
        place = fresh_place(Path(folder), server)
        outcome = run(place, options.processes, options.commits)
    numbers = figures(outcome)
    print(report(outcome, numbers))
    if options.json:
        document = {"figures": numbers, **outcome}
        Path(options.json).write_text(json.dumps(document) + "\n")
    return 1 if outcome["lost"] else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--commits", type=int, default=20, help="of every process")
    parser.add_argument("--json", metavar="FILE", help="write every record and figure to a file")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--folder", help="where to put the repository on local disk")
    where.add_argument("--s3", action="store_true", help="put it on a server")
    return parser.parse_args()


def report(outcome: dict[str, Any], numbers: dict[str, float]) -> str:
    """Lay figures and distributions out as text."""
    records = outcome["records"]
    lines = [f"{name:28} {value:10.3f}" for name, value in numbers.items()]
    tries = [outcome["attempts"].get(record["message"], 0) for record in records]
    lines += histogram("attempts of a commit (0: not in the history)", tries)
    lines += spread("seconds of a commit", (r["ended"] - r["began"] for r in records))
    rounds = [round_ for record in records for round_ in record.get("rounds", ())]
    if rounds:
        lines += uploads_by_kind(outcome)
    for name, outcomes in (
        ("won", ("won",)),
        ("refused at the exchange", ("refused",)),
        ("given up before it", ("news",)),
    ):
        some = [round_ for round_ in rounds if round_["outcome"] in outcomes]
        if not some:
            continue
        lines.append(f"\nrounds {name}: {len(some)}")
        lines += spread("  seconds open to others", (r["window"] for r in some))
        if outcomes != ("news",):
            lines += spread("  of these, exchanging", (r["exchange"] for r in some))
        lines += spread("  waited before", (r["waited"] for r in some))
        lines += histogram("  uploads", [r["uploads"] for r in some])
        if outcomes == ("won",):
            lines += steps_of(some)
    errors = Counter(record["error"] for record in records if "error" in record)
    lines += [f"\n{count} times {error}" for error, count in errors.most_common(10)]
    if outcome["lost"]:
        lines.append(f"\nLOST {len(outcome['lost'])}: {' '.join(outcome['lost'][:20])}")
    return "\n".join(lines)


def uploads_by_kind(outcome: dict[str, Any]) -> list[str]:
    """Show what was uploaded, per commit: alone, and in the race."""
    lines = [""]
    for name in ("alone", "records"):
        records = outcome[name]
        kinds: Counter[str] = Counter()
        for record in records:
            kinds.update(record["uploads"])
        each = ", ".join(f"{kind} {n / len(records):.2f}" for kind, n in sorted(kinds.items()))
        lines.append(f"uploads per commit, {'alone' if name == 'alone' else 'racing'}: {each}")
    return lines


def steps_of(rounds: list[dict[str, Any]]) -> list[str]:
    """Show what the rounds spent their time on: the mean of every step, in order of appearance."""
    seconds: dict[str, float] = {}
    for round_ in rounds:
        for step, took in round_["steps"]:
            seconds[step] = seconds.get(step, 0) + took
    shown = (f"{step} {1000 * total / len(rounds):.1f}" for step, total in seconds.items())
    return ["  milliseconds from one step to the next: " + ", ".join(shown)]


def histogram(title: str, values: Iterable[int]) -> list[str]:
    """Show how often each number occurs."""
    counted = Counter(values)
    return [f"{title}: " + "  ".join(f"{value}: {counted[value]}x" for value in sorted(counted))]


def spread(title: str, values: Iterable[float]) -> list[str]:
    """Show percentiles."""
    from works.contention import percentile

    ordered = sorted(values)
    points = ((50, "median"), (90, "90%"), (99, "99%"), (100, "most"))
    shown = ", ".join(f"{name} {percentile(ordered, percent):.4f}" for percent, name in points)
    return [f"{title}: {shown}"]


if __name__ == "__main__":
    sys.exit(main())
