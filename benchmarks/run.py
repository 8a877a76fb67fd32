"""Measure this Icechunk beside the reference one and print what came out; standard library only.

    python benchmarks/run.py                     # everything, some ten minutes
    python benchmarks/run.py --quick             # smaller works, some two minutes
    python benchmarks/run.py --only commit-few   # works by name, see --list

Each implementation runs in a process of its own, work by work, and both take turns: what slows the
machine down for a while slows both. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rows import OURS_INTERPRETER, REFERENCE, S3_SERVER, WORKS, Work
from s3 import ServerError, s3_server
from sides import REFERENCE_VARIABLE, Side, WorkerError, fill_in, find_ours, find_reference
from table import Result, render, result_of

MIN_RUNS, MAX_RUNS = 3, 7
SECONDS_PER_WORK = 20
"""After the least number of runs, a work is measured again while it took less than this."""


def main() -> int:
    """Measure and print; the exit code tells whether a demand was missed, with --strict."""
    options = parse_arguments()
    if options.list:
        print("\n".join(work.name for work in WORKS))
        return 0
    pythons = {"ours": find_ours(), REFERENCE: find_reference()}
    if pythons[REFERENCE] is None:
        log(f"no reference: install it in .env/oracle or name its Python in {REFERENCE_VARIABLE}")
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="icechunk-bench-", dir=options.dir))
    results: list[Result] = []
    try:
        introduce(pythons, folder)
        for work in WORKS:
            if not options.only or work.name in options.only:
                with ExitStack() as stack:
                    results += measure(work, pythons, folder, options, stack)
    except KeyboardInterrupt:
        log("interrupted")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(render(results))
    log(f"took {time.monotonic() - started:.0f} s")
    if options.json:
        document = [result.as_json() for result in results]
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")
    missed = any(result.is_met is False for result in results)
    return 1 if missed and options.strict else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="WORK", choices=names, help="works to measure")
    parser.add_argument("--runs", type=int, help="measure every work so many times")
    parser.add_argument("--quick", action="store_true", help="smaller works, three runs")
    parser.add_argument("--json", metavar="FILE", help="write all measurements to a file")
    parser.add_argument("--dir", help="where to put data: a folder on the disk to measure")
    parser.add_argument("--strict", action="store_true", help="fail when a demand is missed")
    parser.add_argument("--list", action="store_true", help="print the names of the works")
    return parser.parse_args()


def introduce(pythons: dict[str, str | None], folder: Path) -> None:
    """Print who is compared, where."""
    for name, python in pythons.items():
        if python is not None:
            side = Side(name, python, None)
            about = side.call("describe")
            side.close()
            print(f"{name:9}: " + ", ".join(f"{what} {version}" for what, version in about.items()))
    print(f"machine  : {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, data in {folder}\n")


def measure(
    work: Work,
    pythons: dict[str, str | None],
    folder: Path,
    options: argparse.Namespace,
    stack: ExitStack,
) -> list[Result]:
    """Measure one work on all its sides, in turns; what is to be undone goes onto the stack."""
    params: dict[str, Any] = dict(work.quick if options.quick else work.params)
    measured: dict[str, list[dict[str, float]]] = {}
    begun = time.monotonic()
    known: dict[str, Any] = {OURS_INTERPRETER: pythons["ours"]}
    if S3_SERVER in params.values():
        try:
            known[S3_SERVER] = s3_server(folder / "server", stack)
        except ServerError as error:
            log(f"{work.name}: {error}")
            return [result_of(work.name, row, params, {}, "no S3 server") for row in work.rows]
    sides, notes = set_up(work, fill_in(params, known), pythons, folder, known, stack)
    ready = time.monotonic()
    for run in range(work.runs or options.runs or (MIN_RUNS if options.quick else MAX_RUNS)):
        spent = time.monotonic() - ready
        if not options.runs and run >= MIN_RUNS and spent > SECONDS_PER_WORK:
            break
        # Who comes first alternates too.
        for name in list(sides) if run % 2 == 0 else list(reversed(sides)):
            try:
                measured.setdefault(name, []).append(sides[name].call("measure"))
            except WorkerError as error:
                notes[name] = f"{name} failed"
                log(f"{work.name}: {error}")
                del sides[name]
    log(
        f"{work.name}: set up in {ready - begun:.0f} s, "
        f"{max(map(len, measured.values()), default=0)} runs in {time.monotonic() - ready:.0f} s"
    )
    note = ", ".join(notes.values())
    results = [result_of(work.name, row, params, measured, note) for row in work.rows]
    log(render(results))
    return results


def set_up(
    work: Work,
    params: dict[str, Any],
    pythons: dict[str, str | None],
    folder: Path,
    known: dict[str, Any],
    stack: ExitStack,
) -> tuple[dict[str, Side], dict[str, str]]:
    """Start the sides of a work; return those that are ready, and notes on those that are not."""
    sides: dict[str, Side] = {}
    notes: dict[str, str] = {}
    for name, own in work.sides.items():
        python = pythons[REFERENCE if name == REFERENCE else "ours"]
        if python is None:
            continue
        place = folder / work.name / name.replace(" ", "-")
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        side = Side(name, python, work.pipeline)
        stack.callback(side.close)
        arguments = {**params, **fill_in(dict(own), known)}
        try:
            side.call("set_up", module=work.module, params=arguments, folder=str(place))
        except WorkerError as error:
            notes[name] = f"{name} cannot"
            log(f"{work.name}: {error}")
            continue
        sides[name] = side
    return sides, notes


def log(message: str) -> None:
    """Tell on stderr what is going on."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
