"""What it costs when processes commit to one branch at the same time, in counts.

The race is the one of the benchmarks, only smaller.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "contention.py"
PROCESSES, COMMITS = 8, 5


def race(tmp_path, *where, **variables):
    """Let the processes commit; return what the script found out, by name."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(SCRIPT), *where, "--json", str(report)]
    command += ["--processes", str(PROCESSES), "--commits", str(COMMITS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert report.exists(), done.stderr
    return json.loads(report.read_text()), done.stdout


def check(found, printed):
    records, figures = found["records"], found["figures"]
    assert len({record["message"] for record in records}) == PROCESSES * COMMITS
    assert not [record["error"] for record in records if "error" in record]
    assert found["lost"] == []
    for record in records:
        assert record["rounds"][-1]["outcome"] == "won", printed
        assert sum(round_["outcome"] == "won" for round_ in record["rounds"]) == 1
    assert figures["stored_per_lost_round_most"] <= 3, printed
    assert figures["uploads_per_lost_round"] <= 4, printed  # a refused exchange is sent as well
    assert figures["longest"] < 60, printed


@pytest.mark.slow
def test_processes_that_race_on_local_disk(tmp_path):
    found, printed = race(tmp_path, "--folder", str(tmp_path))
    check(found, printed)
    # They queue, so what is left to lose is the look at a branch that moved while they did.
    assert found["figures"]["attempts_most"] <= 5, printed


@pytest.mark.slow
def test_processes_that_race_on_an_object_store(tmp_path, s3_server):
    variables = {
        "ICECHUNK_BENCH_S3_ENDPOINT": s3_server.endpoint,
        "ICECHUNK_BENCH_S3_BUCKET": s3_server.bucket,
        "ICECHUNK_BENCH_S3_KEY": s3_server.key,
        "ICECHUNK_BENCH_S3_SECRET": s3_server.secret,
    }
    check(*race(tmp_path, "--s3", **variables))
