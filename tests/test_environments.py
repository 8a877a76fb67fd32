"""Environments are made once, whoever asks for them at the same time, and failures are said."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import envs
import pytest


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Environments in a folder of their own, made in no time; a list of those that were."""
    made = []
    (tmp_path / "requirements").mkdir()
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    for environment in envs.ENVIRONMENTS.values():
        (tmp_path / "requirements" / environment.requirements).write_text("")

    def run(*command, lock):
        assert os.fstat(lock)
        if command[1:3] == ("-m", "venv"):
            folder = envs.Path(command[3])
            made.append(folder.name)
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").symlink_to(command[0])
        elif "oracle" in command[0]:
            raise envs.EnvironmentFailure(f"{command[0]} has no wheels")

    monkeypatch.setattr(envs, "ROOT", tmp_path)
    monkeypatch.setattr(envs, "run", run)
    return made


def test_several_who_want_the_same_make_it_once(made):
    barrier = threading.Barrier(4)

    def ask(_):
        barrier.wait()
        return envs.ensure("default")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert made == ["default"]


def test_what_an_environment_is_made_from_makes_it_anew(made):
    envs.ensure("demo")
    envs.ensure("demo")
    (envs.ROOT / "requirements" / "demo.txt").write_text("numpy")
    envs.ensure("demo")
    assert made == ["demo", "demo"]


def test_all_failures_are_said_and_the_others_made(made, monkeypatch, capsys):
    assert envs.main(["oracle", "default", "oracle-1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    for name in ("oracle", "oracle-1"):
        assert f"/{name}/bin/python has no wheels\n" in said.err
        assert not (envs.ROOT / ".env" / name / "made-from").exists()
    assert envs.main(["default", "demo"]) == 0
    paths = [f"{envs.ROOT}/.env/{name}/bin/python" for name in ("default", "demo")]
    assert capsys.readouterr().out.splitlines() == paths


@pytest.mark.parametrize(
    ("program", "how"),
    [("raise SystemExit(3)", "failed with code 3"), ("os.kill(os.getpid(), 9)", "signal 9")],
)
def test_how_a_command_fails_is_said(program, how, tmp_path):
    with (
        open(tmp_path / "lock", "w") as lock,
        pytest.raises(envs.EnvironmentFailure, match=f"-c import os; .*{how}"),
    ):
        envs.run(sys.executable, "-c", f"import os; {program}", lock=lock.fileno())


def test_what_a_killed_process_started_keeps_the_lock(made, tmp_path):
    """Nobody makes an environment while pip still works on it for one who is gone."""
    program = f"""
import sys; sys.path.insert(0, {os.path.dirname(envs.__file__)!r})
import envs, os, subprocess
from pathlib import Path
envs.ROOT = Path({str(tmp_path)!r})
with envs.alone("default") as lock:
    subprocess.Popen(["sh", "-c", "read line"], pass_fds=[lock])
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    assert killed.wait() == -9
    waiting = threading.Thread(target=envs.ensure, args=["default"])
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    killed.stdin.close()
    waiting.join(60)
    assert made == ["default"]
