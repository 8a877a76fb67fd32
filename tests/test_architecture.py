"""The house stays in order: imports go one way, and importing does nothing but define."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import icechunk

ROOT = Path(icechunk.__file__).parent

# Each line may import from the lines above it, and from itself.
LAYERS = [
    {
        "_version",
        "errors",
        "types",
        "_debug_info",
        "_display",
        "_fork",
        "_html",
        "_iterators",
        "_logs",
        "_plain",
        "_threads",
    },
    {"config", "virtual"},
    {"chunks"},
    {"format"},
    {"storage"},
    {"assets"},
    {"repo"},
    {"changes"},
    {"ops", "snapshots", "stats", "verification", "keys", "conflicts", "credentials"},
    {"session", "store", "_verify", "_upgrade", "repository"},
    {"", "testing"},
    {"distributed", "_dask_graph", "dask", "xarray"},
]

FORBIDDEN = {
    "chunks": {"zarr", "obstore", "zstandard", "flatbuffers"},
    "format": {"zarr", "obstore", "time", "random", "secrets", "pathlib", "os"},
    "changes": {"zarr", "obstore"},
    "repo": {"zarr", "obstore"},
    "assets": {"zarr", "obstore"},
}

OPTIONAL = {"dask", "distributed", "xarray", "pytest", "hypothesis"}


def is_module(name):
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("")
        name = ".".join(part for part in relative.parts if part != "__init__")
        yield name, path


def imports(path, *, when_loaded=False):
    """Names of the modules that a file imports: anywhere in it, or only when it is loaded.

    Imports for type checkers never run and do not count.
    """
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)) or (
            when_loaded and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # ``from package import module`` needs the module, not what else the package gathers
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else node.module for name in names)


def package_of(module):
    return module.split(".")[0]


def layer_of(package):
    found = [i for i, layer in enumerate(LAYERS) if package in layer]
    assert found, f"{package!r} belongs to no layer: put it into LAYERS"
    return found[0]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_go_down_the_layers_only(name, path):
    mine = layer_of(package_of(name))
    for imported in imports(path):
        if imported == "icechunk" or not imported.startswith("icechunk."):
            continue
        target = imported.removeprefix("icechunk.")
        assert layer_of(package_of(target)) <= mine, f"{name} imports {imported}"


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_a_layer_knows_only_its_own_tools(name, path):
    foreign = FORBIDDEN.get(package_of(name), set())
    assert not foreign & {package_of(module) for module in imports(path)}


def test_there_are_no_cycles():
    known = dict(modules())
    graph = {
        name: {
            imported.removeprefix("icechunk.")
            for imported in imports(path, when_loaded=True)
            if imported.startswith("icechunk.")
        }
        & set(known)
        for name, path in known.items()
    }
    done, active = set(), []

    def visit(name):
        if name in active:
            pytest.fail(" -> ".join([*active[active.index(name) :], name]))
        if name in done:
            return
        active.append(name)
        for target in sorted(graph[name]):
            visit(target)
        active.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_importing_starts_nothing_and_needs_no_extras():
    script = f"""
import sys, threading
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {sorted(OPTIONAL)!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import icechunk
assert threading.active_count() == 1, threading.enumerate()
icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main")
assert threading.active_count() == 1, threading.enumerate()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT.parent), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_locks_survive_forks():
    """Locks come from `_fork`, with few exceptions."""
    excused = {
        "_fork": "makes them",
        "storage.locks": "makes its own anew in a child",
        "assets.cache": "forks wait for it",
        "changes.snapshot_writer": "lives as long as one commit, which no child goes on with",
    }
    kinds = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name not in excused:
                function = node.func
                called = getattr(function, "attr", None) or getattr(function, "id", None)
                owner = getattr(getattr(function, "value", None), "id", "threading")
                assert called not in kinds or owner != "threading", f"{name}:{node.lineno}"


def test_the_page_describes_every_layer():
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text()
    named = {name for layer in LAYERS for name in layer if name}
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_the_page_names_files_that_exist():
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`([\w/]+\.py|tests/\w+|[a-z]+/)`", page):
        places = (ROOT / name, ROOT.parents[1] / name, ROOT / "format" / name)
        assert name in {"icechunk/", "overwritten/"} or any(map(Path.exists, places)), name
