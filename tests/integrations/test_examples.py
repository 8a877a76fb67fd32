"""The examples run as they are, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False, env=environment
    )


def test_fork_and_merge(tmp_path):
    done = run("fork_and_merge.py", str(tmp_path / "repo"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 chunks" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("iris_sample_data") is None, reason="needs iris-sample-data")
def test_distributed_write(tmp_path):
    done = run("distributed_write.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "identical" in done.stdout
    assert "Add scenario A1B" in done.stdout
    assert (tmp_path / "demo-repo" / "repo").is_file()


@pytest.mark.skipif(find_spec("iris_sample_data") is None, reason="needs iris-sample-data")
def test_distributed_write_leaves_other_folders_alone(tmp_path):
    precious = tmp_path / "demo-repo" / "precious"
    precious.parent.mkdir()
    precious.touch()
    done = run("distributed_write.py", cwd=tmp_path)
    assert done.returncode != 0
    assert "not empty" in done.stderr
    assert precious.exists()
