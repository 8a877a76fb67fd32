"""How objects show themselves in terminals and notebooks; texts are what the reference prints."""

import copy
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
import zarr

import icechunk
from icechunk import _html
from icechunk._display import Block, Shown
from icechunk.config.base import Settings
from icechunk.config.object_stores import azure_store
from icechunk.conflicts import Conflict, ConflictType
from icechunk.storage import S3StaticCredentials

NAMES = {"icechunk": icechunk}


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


# --- what evaluates ------------------------------------------------------------------------------

STORES = [
    icechunk.s3_store("r"),
    icechunk.s3_store(endpoint_url="http://x", s3_compatible=True),
    icechunk.ObjectStoreConfig.Tigris(icechunk.S3Options()),
    icechunk.gcs_store({"a": "b"}),
    azure_store(account="a"),
    icechunk.http_store({"timeout": "5s"}, {"accept": "x"}),
    icechunk.http_store(),
    icechunk.local_filesystem_store("/x y"),
    icechunk.ObjectStoreConfig.InMemory(),
]
CONTAINER = icechunk.VirtualChunkContainer("s3://a/", STORES[0], 'a "name"')
PRELOAD = icechunk.ManifestPreloadCondition.true() | icechunk.ManifestPreloadCondition.num_refs(
    None, 3
)
SPLITS = (
    (
        icechunk.ManifestSplitCondition.path_matches('"\\d'),
        (
            (icechunk.ManifestSplitDimCondition.Axis(1), 3),
            (icechunk.ManifestSplitDimCondition.DimensionName("x"), 4),
        ),
    ),
)


def samples():
    """Values to try on every setting: of every setting class, and plain ones."""
    yield from (1, True, "quoted \"'\\ \n 🧊", SPLITS, PRELOAD, {"s3://a/": CONTAINER}, *STORES)
    yield from icechunk.ChecksumAlgorithm
    yield from icechunk.CompressionAlgorithm
    for cls in subclasses(Settings):
        yield simplest(cls)


def simplest(cls):
    return copy.deepcopy(CONTAINER) if cls is icechunk.VirtualChunkContainer else cls()


@pytest.mark.parametrize(
    ("cls", "field"),
    [(cls, name) for cls in subclasses(Settings) for name in cls._fields],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_setting_of_every_class_survives_its_repr(cls, field):
    tried = 0
    for value in samples():
        settings = simplest(cls)
        try:
            cls._fields[field].store(settings, value)
        except (TypeError, ValueError, OverflowError):
            continue
        tried += 1
        assert eval(repr(settings), NAMES) == settings
        assert re.search(rf"^    {field}=", repr(settings), re.MULTILINE)
        assert re.search(rf"^{field}:", str(settings), re.MULTILINE)
    assert tried, f"no sample fits {cls.__name__}.{field}: add one"


@pytest.mark.parametrize("store", STORES, ids=lambda store: type(store).__name__)
def test_stores_survive_their_repr(store):
    assert eval(repr(store), NAMES) == store


def test_readable_and_executable_forms_do_not_mix():
    config = icechunk.RepositoryConfig(
        storage=icechunk.StorageSettings(), virtual_chunk_containers={"s3://a/": CONTAINER}
    )
    assert "inline_chunk_threshold_bytes=None" in repr(config)
    assert " (default)" not in repr(config)
    assert "(\n" not in str(config)
    assert "inline_chunk_threshold_bytes: 512 (default)" in str(config)


# --- what is a block -----------------------------------------------------------------------------

WHEN = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
WHEN_TEXT = "datetime.datetime(2024,1,2,3,4,5,6, tzinfo=datetime.timezone.utc)"


@pytest.fixture
def committed(repo):
    session = repo.writable_session("main")
    zarr.create_group(session.store)
    array = zarr.create_array(session.store, name="a<b>", shape=(40,), chunks=(1,), dtype="i4")
    array[:] = 1
    zarr.create_group(session.store, path="g")
    status = session.status()
    session.commit("One <b>line</b>\nand & another")
    return repo, session, status


def test_sessions_and_stores(repo):
    session = repo.writable_session("main")
    head = "<icechunk.session.Session>\nread_only: {}\nsnapshot_id: 1CECHNKREP0F1RSTCMT0\n"
    assert repr(session) == str(session)
    assert repr(session) == head.format(False) + "branch: main\nhas_uncommitted_changes: False\n"
    assert repr(repo.readonly_session("main")) == head.format(True)
    assert repr(session.fork()) == (
        head.format(False) + "branch: None\nhas_uncommitted_changes: False\n"
    )
    assert repr(session.store) == (
        "<icechunk.IcechunkStore>\nread_only: False\n"
        "snapshot_id: 1CECHNKREP0F1RSTCMT0\nbranch: main\n"
    )
    zarr.create_group(session.store)
    assert repr(session).endswith("has_uncommitted_changes: True\n")
    session.commit("x")
    assert repr(session) == (
        f"<icechunk.session.Session>\nread_only: True\nsnapshot_id: {session.snapshot_id}\n"
    )


def test_arrays_show_on_one_line(repo):
    session = repo.writable_session("main")
    array = zarr.create_array(session.store, name="a", shape=(4,), dtype="i4")
    assert repr(array) == ("<Array icechunk://1CECHNKREP0F1RSTCMT0/a shape=(4,) dtype=int32>")


def test_repository(tmp_path):
    memory = icechunk.Repository.create(icechunk.in_memory_storage())
    assert repr(memory) == (
        "<icechunk.Repository (v2)>\nstorage:\n    <icechunk.Storage>\n    type: in-memory\n"
        "config: <RepositoryConfig ...>\n"
    )
    path = str(tmp_path / "x")
    assert repr(icechunk.local_filesystem_storage(path)) == (
        f"<icechunk.Storage>\ntype: local filesystem\npath: {path}\n"
    )


def test_s3_storage():
    storage = icechunk.s3_storage(
        bucket="b",
        prefix="p",
        region="us-east-1",
        endpoint_url="http://x:90",
        allow_http=True,
        force_path_style=True,
        access_key_id="AKIAXYZ",
        secret_access_key="very-secret",
        session_token="also-secret",
    )
    assert repr(storage) == (
        "<icechunk.Storage>\ntype: S3 (native)\nbucket: b\nprefix: p\nregion: us-east-1\n"
        "endpoint_url: http://x:90\nallow_http: True\nforce_path_style: True\n"
    )
    anonymous = icechunk.s3_storage(bucket="b", prefix=None, anonymous=True)
    assert repr(anonymous) == "<icechunk.Storage>\ntype: S3 (native)\nbucket: b\nanonymous: True\n"


def test_records(committed):
    repo, session, _ = committed
    info = next(repo.ancestry(branch="main"))
    written = repr(info).partition("written_at: ")[2].partition("\n")[0]
    assert eval(written, {"datetime": __import__("datetime")}) == info.written_at
    assert repr(info) == (
        f"<icechunk.snapshots.SnapshotInfo>\nid: {session.snapshot_id}\n"
        f"parent_id: 1CECHNKREP0F1RSTCMT0\nwritten_at: {written}\n"
        "message:\n    One <b>line</b>\n    and & another\nmetadata: {}\n"
    )
    (manifest,) = repo.list_manifest_files(session.snapshot_id)
    assert repr(manifest) == (
        f"<icechunk.snapshots.ManifestFileInfo>\nid: {manifest.id}\n"
        f"size_bytes: {manifest.size_bytes}\nnum_chunk_refs: 40\n"
    )
    update = next(repo.ops_log())
    assert repr(update).startswith(
        "<icechunk.ops.Update>\nkind: icechunk.ops.UpdateType.NewCommit("
        f'branch="main", new_snap_id="{session.snapshot_id}")\nupdated_at: datetime.datetime('
    )
    assert repr(update).endswith("\nbackup_path: None\n")
    status = icechunk.RepoStatus(icechunk.RepoAvailability.read_only, WHEN, "Moving")
    assert repr(status) == (
        f"<icechunk.repository.RepoStatus>\navailability: ReadOnly\nset_at: {WHEN_TEXT}\n"
        "limited_availability_reason: Moving\n"
    )
    stored = repo._storage.list_objects_metadata()[0]
    assert repr(stored).startswith(f"<icechunk.storage.StorageObjectInfo>\nkey: {stored.key}\n")


def test_diff(committed):
    _, session, status = committed
    rows = "".join(f"        [{i}]\n" for i in range(10))
    assert repr(status) == (
        "Groups created:\n    /\n    /g\n\nArrays created:\n    /a<b>\n\n"
        f"Chunks updated:\n    /a<b>:\n{rows}        ... 30 more\n"
    )
    assert repr(session.status()) == ""


def test_enumerations():
    assert repr(icechunk.SessionMode.writable) == str(icechunk.SessionMode.writable)
    assert [repr(mode) for mode in icechunk.SessionMode] == [
        "SessionMode.readonly",
        "SessionMode.writable",
        "SessionMode.rearrange",
    ]
    assert repr(icechunk.SpecVersion.v2) == "SpecVersion.v2 (current)"
    assert repr(icechunk.RepoAvailability.online) == "RepoAvailability.online"


# --- secrets -------------------------------------------------------------------------------------


def test_credentials_show_no_secrets():
    known = S3StaticCredentials("AKIAXYZ", "abcdefgh", "ijklmnop", WHEN)
    assert repr(known) == str(known)
    assert repr(known) == (
        "<icechunk.credentials.S3StaticCredentials>\naccess_key_id: AKIA****\n"
        f"secret_access_key: ****\nsession_token: ****\nexpires_after: {WHEN_TEXT}\n"
    )


@pytest.mark.parametrize(
    "thing",
    [
        S3StaticCredentials("AKIAXYZ", "sesame", "sesame"),
        icechunk.storage.S3Credentials.Static(S3StaticCredentials("AKIAXYZ", "sesame", "sesame")),
        icechunk.s3_storage(bucket="b", prefix="p", access_key_id="a", secret_access_key="sesame"),
        icechunk.gcs_store({"service_account_key": "sesame"}),
        icechunk.http_store({}, {"authorization": "sesame"}),
        icechunk.RepositoryConfig(
            virtual_chunk_containers={
                "http://x/": icechunk.VirtualChunkContainer(
                    "http://x/", icechunk.http_store({}, {"cookie": "sesame"})
                )
            }
        ),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_nothing_readable_holds_secrets(thing):
    assert "sesame" not in str(thing)
    if hasattr(thing, "_repr_html_"):
        assert "sesame" not in thing._repr_html_()
    if not isinstance(thing, Settings | icechunk.ObjectStoreConfig):  # those print as code
        assert "sesame" not in repr(thing)


# --- notebooks -----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags close in order, and keeps the text without style."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.tags = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def shown_things(committed):
    repo, session, status = committed
    yield from (repo, session, session.store, status, repo._storage, session.status())
    yield from repo.ancestry(branch="main")
    yield from repo.list_manifest_files(session.snapshot_id)
    yield from repo.ops_log()
    yield repo.writable_session("main").fork()
    yield icechunk.RepoStatus(icechunk.RepoAvailability.read_only, WHEN, "<script>")
    yield S3StaticCredentials("a", "b")
    yield repo._storage.list_objects_metadata()[0]
    yield from repo.feature_flags()
    yield repo.chunk_storage_stats()
    yield repo.storage_statistics(by="snapshot")
    yield repo.storage_freed_by_expiring(WHEN)
    yield Conflict(ConflictType.ChunkDoubleUpdate, "/<a>", [[1], [2]])
    yield from STORES
    yield from map(simplest, subclasses(Settings))
    yield icechunk.RepositoryConfig(virtual_chunk_containers={"s3://<a>/": CONTAINER})


def lines_of(block):
    """Names and values of a block and all below, as text shows them."""
    return {line.strip() for line in block.text().splitlines()} - {""}


def test_pages_hold_what_text_shows(committed):
    for thing in shown_things(committed):
        page = thing._repr_html_()
        assert page.startswith("<style>")
        assert page.count("<style>") == 1
        assert '</style>\n<div class="icechunk-repr">' in page
        text = "".join(Page(page).text)
        for line in lines_of(thing._block()):
            if "<RepositoryConfig ...>" in line:
                continue
            if line.startswith("<icechunk."):
                line = line[1:-1]
            if line.endswith(":") and not line.startswith("/"):
                line = line.removesuffix(":")
            assert line in text, (line, text)


def test_pages_escape_what_comes_from_outside(committed):
    for thing in shown_things(committed):
        tags = set(Page(thing._repr_html_()).tags)
        assert tags <= {"style", "div", "span", "details", "summary", "pre"}


def test_pages_unfold_what_text_abbreviates(committed):
    page = committed[0]._repr_html_()
    assert "RepositoryConfig ..." not in page
    assert "inline_chunk_threshold_bytes" in page
    assert page.count("<details>") > 5


def test_drawings_have_the_same_frame(committed):
    page = committed[0].ancestry_graph()._repr_html_()
    assert page.startswith(_html.STYLE + '<div class="icechunk-repr">')
    assert "<svg" in page


def test_an_empty_difference_says_so():
    assert "(empty)" in icechunk.Diff()._repr_html_()


def test_every_public_class_that_shows_a_block_has_a_page():
    for name in icechunk.__all__:
        thing = getattr(icechunk, name)
        if isinstance(thing, type) and issubclass(thing, Shown):
            assert callable(thing._repr_html_)
    for name in ("Repository", "Session", "ForkSession", "IcechunkStore", "Storage", "Diff"):
        assert issubclass(getattr(icechunk, name), Shown)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", _html.LANES)
def test_colours_stand_out_on_light_and_dark(colour):
    light = 1.05 / (luminance(colour) + 0.05)
    dark = (luminance(colour) + 0.05) / (luminance("#111111") + 0.05)
    assert min(light, dark) > 3.5
    assert colour in _html.STYLE


def test_the_style_knows_the_usual_notebooks():
    assert "--jp-content-font-color" in _html.STYLE
    assert "--vscode-foreground" in _html.STYLE
    assert "currentColor" in _html.STYLE


def test_blocks_nest():
    inner = Block.of("b", {"x": 1})
    assert Block.of("a", {"one": "1\n2\n", "b": inner}).text() == (
        "<a>\none:\n    1\n    2\nb:\n    <b>\n    x: 1\n"
    )
