"""Functions that hand out credentials, in jobs of many tasks."""

import sys
import textwrap
import uuid
from collections import Counter

import numpy as np
import pytest
import zarr

from icechunk import Repository
from icechunk.storage import refresh

da = pytest.importorskip("dask.array")

PROVIDER = """
    import os
    from dataclasses import dataclass
    from icechunk.credentials import S3StaticCredentials

    @dataclass
    class Provider:
        calls: str
        key: str
        secret: str

        def __call__(self):
            with open(self.calls, "a") as file:
                file.write(f"{os.getpid()}\\n")
            return S3StaticCredentials(self.key, self.secret)
"""


@pytest.fixture
def provider(tmp_path, monkeypatch):
    """Module of a function's class, which other processes can import, too."""
    name = f"provider_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PROVIDER))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    refresh._sources.clear()
    yield __import__(name).Provider
    refresh._sources.clear()
    sys.modules.pop(name, None)


@pytest.mark.parametrize("scatter", [False, True])
def test_a_process_asks_once_for_all_its_tasks(s3_server, provider, tmp_path, scatter):
    prefix = f"tests/{uuid.uuid4().hex}"
    written = Repository.create(s3_server.storage(prefix)).writable_session("main")
    zarr.create_array(written.store, name="x", data=np.arange(40), chunks=(2,))
    written.commit("numbers")

    calls = tmp_path / "calls"
    storage = s3_server.storage(
        prefix,
        access_key_id=None,
        secret_access_key=None,
        get_credentials=provider(str(calls), s3_server.key, s3_server.secret),
        scatter_initial_credentials=scatter,
    )
    session = Repository.open(storage).readonly_session("main")
    lazy = da.from_array(zarr.open_array(session.store, path="x", mode="r"), chunks=2)
    assert lazy.npartitions == 20
    np.testing.assert_array_equal(lazy.compute(scheduler="processes", num_workers=1), np.arange(40))
    asked = Counter(calls.read_text().split())
    assert set(asked.values()) == {1}
    assert len(asked) == (1 if scatter else 2)  # this process, and the other one if it had to
