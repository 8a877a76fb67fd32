"""Write the golden repositories again: run by hand, with the reference Icechunk's interpreter.

Each repository goes into ``golden/<name>.zip`` together with ``expected.json``, what the reference
that wrote it reads from it. Content is the same every time, ids and times are not. Run once with
Icechunk 2.x, and once with 1.x for the files of the first generation; each writes its own and
enters its version in ``golden/PROVENANCE.json``::

    .env/oracle/bin/python compat/make_golden.py
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interop import reference, scenarios
from interop.describe import describe

import icechunk

GOLDEN = Path(__file__).with_name("golden")
EPOCH = (1980, 1, 1, 0, 0, 0)
VERSION = importlib.metadata.version("icechunk")


def spec_1_expectations(path: str) -> Any:
    """Describe a repository of spec version 1: its snapshots, and the difference each one made."""
    snapshots = reference.describe_spec_1(path)
    return {
        "snapshots": snapshots,
        "changes": {
            id: reference.diff(path, state["parent_id"], id)
            for id, state in snapshots.items()
            if state["parent_id"] is not None
        },
    }


def virtual_expectations(path: str) -> Any:
    """Describe a repository whose virtual chunks cannot be read."""
    return {
        "described": describe(path, values=False),
        "references": reference.chunk_references(path),
    }


Writer = Callable[[str], None]
Describer = Callable[[str], Any]

FIRST_GENERATION: dict[str, tuple[Writer, Describer]] = {
    "spec-1-by-1.x": (reference.spec_1, spec_1_expectations),
}
SECOND_GENERATION: dict[str, tuple[Writer, Describer]] = {
    "spec-1-by-2.x": (lambda path: reference.spec_1(path, spec_version=1), spec_1_expectations),
    "virtual": (lambda path: reference.virtual(path, 1500), virtual_expectations),
    "splitting": (lambda path: scenarios.splitting(path, "by path"), describe),
    **{
        write.__name__: (write, describe)
        for write in (scenarios.hierarchy, scenarios.edits, scenarios.history, *reference.WRITERS)
    },
}


def main() -> None:
    """Write the repositories that this version of the reference is there for."""
    GOLDEN.mkdir(exist_ok=True)
    table = FIRST_GENERATION if VERSION.startswith("1.") else SECOND_GENERATION
    for name, (write, expectations) in table.items():
        with tempfile.TemporaryDirectory() as folder:
            repository = Path(folder) / "repo"
            write(str(repository))
            pack(GOLDEN / f"{name}.zip", repository, expectations(str(repository)))
    record = GOLDEN / "PROVENANCE.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    writer = {
        package: importlib.metadata.version(package) for package in ("icechunk", "zarr", "numpy")
    }
    known |= dict.fromkeys(table, writer)
    record.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    print(f"{len(table)} repositories by icechunk {VERSION} from {icechunk.__file__}")


def pack(archive: Path, repository: Path, expected: Any) -> None:
    """Put a repository and what is in it into one file."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(path for path in repository.rglob("*") if path.is_file()):
            name = f"repo/{file.relative_to(repository).as_posix()}"
            zipped.writestr(zipfile.ZipInfo(name, EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
        text = json.dumps(expected, sort_keys=True)
        zipped.writestr(zipfile.ZipInfo("expected.json", EPOCH), text, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
