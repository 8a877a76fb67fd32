"""The log: who prints it, what filters let through, what is worth a warning."""

import http.server
import io
import logging
import os
import subprocess
import sys
import textwrap
import threading

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import icechunk
from icechunk import _logs
from icechunk._logs import NAME, OFF, TRACE, parse_filter

WORK = """
repo = icechunk.Repository.create(icechunk.in_memory_storage())
session = repo.writable_session("main")
zarr.create_group(session.store)
session.commit("x")
"""
WARNED = """
tiny = icechunk.RepositoryConfig(caching=icechunk.CachingConfig(num_snapshot_nodes=1))
repo = icechunk.Repository.create(icechunk.in_memory_storage(), tiny)
session = repo.writable_session("main")
zarr.create_group(session.store)
zarr.create_group(session.store, path="a")
session.commit("x")
"""


def run(program, **environment):
    """Run a program without pytest's handlers; returns what it prints to both streams."""
    clean = {name: value for name, value in os.environ.items() if "ICECHUNK" not in name}
    done = subprocess.run(
        [sys.executable, "-c", "import logging, sys, icechunk, zarr\n" + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.fixture
def fresh(monkeypatch):
    """Start and leave with no filter set."""
    for name in ("ICECHUNK_LOG", "ICECHUNK_LOG_TO_STDOUT"):
        monkeypatch.delenv(name, raising=False)
    icechunk.set_logs_filter(None)
    yield monkeypatch
    monkeypatch.undo()
    icechunk.set_logs_filter(None)


def work():
    namespace = {"icechunk": icechunk, "zarr": zarr}
    exec(WORK, namespace)
    return namespace["session"].snapshot_id


# --- without any setting up ----------------------------------------------------------------------


def test_importing_and_working_is_silent():
    assert run(WORK) == ("", "")


def test_warnings_go_to_standard_error():
    out, err = run(WARNED)
    assert out == ""
    assert "WARNING icechunk.assets.cache:" in err
    assert "caching.num_snapshot_nodes" in err


def test_local_commits_are_safe_and_need_no_warning(tmp_path):
    program = WORK.replace("in_memory_storage()", f"local_filesystem_storage({str(tmp_path)!r})")
    assert run(program) == ("", "")


# --- the environment -----------------------------------------------------------------------------


def test_the_environment_asks_for_more():
    out, err = run(WORK, ICECHUNK_LOG="debug")
    assert out == ""
    assert "DEBUG icechunk.repo.create: creating a repository in memory " in err
    assert "INFO icechunk.changes.commit: committed snapshot " in err
    assert "write_snapshot snapshot_id=" in err


def test_the_environment_asks_for_parts():
    _, err = run(WORK, ICECHUNK_LOG="icechunk::changes=info")
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(" INFO icechunk.changes.commit: " in line for line in lines)


def test_the_environment_asks_for_standard_output():
    out, err = run(WARNED, ICECHUNK_LOG_TO_STDOUT="1")
    assert "WARNING icechunk.assets.cache:" in out
    assert err == ""


def test_the_environment_asks_for_silence():
    assert run(WARNED, ICECHUNK_NO_LOGS="1", ICECHUNK_LOG="debug") == ("", "")
    program = 'logging.basicConfig(stream=sys.stdout, format="app: %(name)s")' + WARNED
    out, err = run(program, ICECHUNK_NO_LOGS="1")
    assert (out, err) == ("app: icechunk.assets.cache\n", "")


def test_misspellings_get_a_hint():
    names = ["icechnk", "icechumk", "Icechunks", "iceshunk::session", "icechu"]
    out, err = run("", ICECHUNK_LOG=",".join(f"{name}=debug" for name in names))
    assert out == ""
    assert err.splitlines() == [
        f"WARNING: Did you mean 'icechunk' instead of '{name.split('::')[0]}' in log filter?"
        for name in names
    ]


def test_other_names_get_none():
    names = ["iceck", "icechunk", "icechunk_storage", "zarr", "hyper::client"]
    assert run("", ICECHUNK_LOG=",".join(f"{name}=warn" for name in names)) == ("", "")


def test_nonsense_is_reported_and_ignored():
    _, err = run(WORK, ICECHUNK_LOG="icechunk=loud,icechunk.changes=info,=,a=b=c")
    assert [line for line in err.splitlines() if line.startswith("ignoring")] == [
        f"ignoring `{wrong}` in the log filter: expected a level "
        "(off, error, warn, info, debug, trace) or target=level"
        for wrong in ("icechunk=loud", "=", "a=b=c")
    ]
    assert "committed snapshot" in err


def test_telemetry_is_not_supported():
    _, err = run("", ICECHUNK_LOG="debug", OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4317")
    assert err.count("\n") == 1
    assert "not supported: ignoring OTEL_EXPORTER_OTLP_ENDPOINT" in err
    assert run("", OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4317") == ("", "")
    assert icechunk.shutdown_telemetry() is None


# --- the application's own logging ---------------------------------------------------------------


def test_an_application_that_logs_gets_every_record_once():
    program = 'logging.basicConfig(level="INFO", format="app: %(message)s")' + WORK
    for environment in ({}, {"ICECHUNK_LOG": "info"}):
        _, err = run(program, **environment)
        assert err.count("committed snapshot") == 1
        assert all(line.startswith("app: ") for line in err.splitlines())


def test_an_application_that_logs_to_a_file_is_not_interrupted(tmp_path):
    setup = f"logging.basicConfig(filename={str(tmp_path / 'log')!r})"
    assert run(setup + WARNED) == ("", "")
    assert "icechunk.assets.cache" in (tmp_path / "log").read_text()


def test_a_filter_prints_beside_the_file_of_an_application(tmp_path):
    setup = f"logging.basicConfig(filename={str(tmp_path / 'log')!r})"
    _, err = run(setup + WORK, ICECHUNK_LOG="info")
    assert err.count("committed snapshot") == 1
    assert (tmp_path / "log").read_text().count("committed snapshot") == 1


def test_records_reach_pytest(fresh, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="icechunk"):
        snapshot_id = work()
    assert f"committed snapshot {snapshot_id} to 'main'" in caplog.messages
    assert capsys.readouterr().err == ""


def test_nothing_of_others_is_touched(fresh):
    root, neighbour = logging.getLogger(), logging.getLogger("zarr")
    before = (list(root.handlers), root.level, neighbour.level, logging.getLevelName(TRACE))
    icechunk.set_logs_filter("trace,zarr=debug")
    icechunk.initialize_logs()
    after = (list(root.handlers), root.level, neighbour.level, logging.getLevelName(TRACE))
    assert before == after


# --- filters -------------------------------------------------------------------------------------


def test_set_and_unset(fresh, capsys):
    icechunk.set_logs_filter("debug")
    work()
    assert "creating a repository" in capsys.readouterr().err
    icechunk.set_logs_filter("off")
    work()
    logging.getLogger("icechunk.x").critical("unheard")
    assert capsys.readouterr().err == ""
    icechunk.set_logs_filter("icechunk.operations=trace")
    work()
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("icechunk.operations" in line for line in lines)
    fresh.setenv("ICECHUNK_LOG", "info")
    icechunk.set_logs_filter(None)
    work()
    assert "committed snapshot" in capsys.readouterr().err
    fresh.delenv("ICECHUNK_LOG")
    icechunk.set_logs_filter(None)
    work()
    assert capsys.readouterr().err == ""
    assert logging.getLogger(NAME).level == logging.NOTSET
    assert logging.getLogger("icechunk.operations").level == logging.NOTSET


def test_the_stream_is_the_one_of_the_moment(fresh, monkeypatch):
    icechunk.set_logs_filter("info")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    work()
    assert "committed snapshot" in stream.getvalue()
    monkeypatch.setattr(sys, "stderr", None)  # as without a console
    work()


def test_traces_have_a_name(fresh, capsys):
    icechunk.set_logs_filter("trace")
    logging.getLogger("icechunk.x").log(TRACE, "fine grained")
    assert " TRACE icechunk.x: fine grained\n" in capsys.readouterr().err


def test_once_is_enough(fresh):
    for _ in range(3):
        icechunk.initialize_logs()
    assert logging.getLogger(NAME).handlers.count(_logs._output) == 1


@pytest.mark.parametrize("wrong", [3, b"debug", ["debug"]])
def test_filters_are_text(wrong):
    with pytest.raises(TypeError, match="log filter"):
        icechunk.set_logs_filter(wrong)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {}),
        ("info", {"icechunk": logging.INFO}),
        ("WARN", {"icechunk": logging.WARNING}),
        ("0", {"icechunk": OFF}),
        ("5", {"icechunk": TRACE}),
        ("error, icechunk::storage::s3=debug", {"icechunk": 40, "icechunk.storage.s3": 10}),
        ("icechunk.store", {"icechunk.store": TRACE}),
        ("icechunk.store=", {"icechunk.store": TRACE}),
        ("icechunk_storage=off", {"icechunk.storage": OFF}),
        ("debug,info", {"icechunk": logging.INFO}),
        ("tokio=debug", {}),
    ],
)
def test_grammar(text, levels):
    assert parse_filter(text).levels == levels
    assert not parse_filter(text).complaints


@given(st.text(alphabet="icehunk=:.,_0 debugwarn", max_size=40))
def test_any_text_is_a_filter(text):
    parsed = parse_filter(text)
    assert all(name == NAME or name.startswith(f"{NAME}.") for name in parsed.levels)
    assert set(parsed.levels.values()) <= set(_logs.LEVELS.values())


def slow_distance(one, other):
    if not one or not other:
        return len(one) + len(other)
    if one[-1] == other[-1]:
        return slow_distance(one[:-1], other[:-1])
    shorter = ((one[:-1], other), (one, other[:-1]), (one[:-1], other[:-1]))
    return 1 + min(slow_distance(*pair) for pair in shorter)


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_distances(one, other):
    assert _logs._distance(one, other) == slow_distance(one, other)


# --- who we are ----------------------------------------------------------------------------------


def test_debug_info_imports_nothing():
    out, _ = run("""
        before = set(sys.modules)
        icechunk.print_debug_info()
        print({"xarray", "virtualizarr"} & (set(sys.modules) - before))
    """)
    facts = dict(line.split(":  ") for line in out.splitlines()[:-1])
    assert list(facts)[:5] == ["platform", "python", "icechunk", "zarr", "numcodecs"]
    assert facts["icechunk"] == icechunk.__version__
    assert facts["zarr"] == zarr.__version__
    assert out.splitlines()[-1] == "set()"


def test_object_stores_are_told_who_asks():
    seen = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["User-Agent"])
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        storage = icechunk.s3_storage(
            bucket="b",
            prefix="p",
            region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            allow_http=True,
            force_path_style=True,
            anonymous=True,
        )
        with pytest.raises(icechunk.StorageError):
            storage.get("repo")
        server.shutdown()
        thread.join()
    assert seen == [icechunk.user_agent()]
    assert icechunk.user_agent() == f"icechunk-python/{icechunk.__version__}"
