"""Credentials as values: what is picked, shown, compared, sent along and refreshed."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from icechunk import credentials as public
from icechunk.credentials import (
    AzureCredentials,
    AzureRefreshableCredential,
    AzureStaticCredentials,
    Credentials,
    GcsBearerCredential,
    GcsCredentials,
    GcsStaticCredentials,
    HttpAccess,
    LocalFileSystemAccess,
    S3Credentials,
    S3StaticCredentials,
    azure_credentials,
    azure_refreshable_credentials,
    azure_static_credentials,
    containers_credentials,
    gcs_credentials,
    gcs_refreshable_credentials,
    gcs_static_credentials,
    s3_credentials,
    s3_refreshable_credentials,
    s3_static_credentials,
)
from icechunk.storage import refresh
from icechunk.storage.masked import secrets_of

SOON = datetime(2040, 1, 1, tzinfo=UTC)
SECRET = "very-secret-thing"

calls = []


@pytest.fixture(autouse=True)
def forget():
    refresh._sources.clear()
    calls.clear()


def s3_key(name=SECRET, expires_after=None):
    calls.append(name)
    return S3StaticCredentials("AKIAEXAMPLE", name, expires_after=expires_after)


def gcs_token():
    calls.append("gcs")
    return GcsBearerCredential(SECRET)


def azure_token():
    calls.append("azure")
    return AzureRefreshableCredential.BearerToken(SECRET)


def failing():
    raise ValueError("bad creds")


EVERY_VALUE = [
    S3StaticCredentials("AKIAEXAMPLE", SECRET, SECRET, SOON),
    S3Credentials.FromEnv(),
    S3Credentials.Anonymous(),
    S3Credentials.Static(S3StaticCredentials("AKIAEXAMPLE", SECRET)),
    S3Credentials.Refreshable(pickle.dumps(partial(s3_key, SECRET)), s3_key()),
    GcsBearerCredential(SECRET, expires_after=SOON),
    GcsStaticCredentials.ServiceAccount("/path/of/key.json"),
    GcsStaticCredentials.ServiceAccountKey(SECRET),
    GcsStaticCredentials.ApplicationCredentials("/path/of/key.json"),
    GcsStaticCredentials.BearerToken(SECRET),
    GcsCredentials.FromEnv(),
    GcsCredentials.Anonymous(),
    GcsCredentials.Static(GcsStaticCredentials.BearerToken(SECRET)),
    GcsCredentials.Refreshable(pickle.dumps(gcs_token), GcsBearerCredential(SECRET)),
    AzureStaticCredentials.AccessKey(SECRET),
    AzureStaticCredentials.SasToken(SECRET),
    AzureStaticCredentials.BearerToken(SECRET),
    AzureRefreshableCredential.AccessKey(SECRET, SOON),
    AzureRefreshableCredential.SasToken(SECRET, SOON),
    AzureRefreshableCredential.BearerToken(SECRET, expires_after=SOON),
    AzureCredentials.FromEnv(),
    AzureCredentials.Anonymous(),
    AzureCredentials.Static(AzureStaticCredentials.AccessKey(SECRET)),
    AzureCredentials.Refreshable(pickle.dumps(azure_token)),
    Credentials.S3(S3Credentials.Static(S3StaticCredentials("AKIAEXAMPLE", SECRET))),
    Credentials.Gcs(GcsCredentials.Static(GcsStaticCredentials.BearerToken(SECRET))),
    Credentials.Azure(AzureCredentials.Static(AzureStaticCredentials.SasToken(SECRET))),
    LocalFileSystemAccess,
    HttpAccess,
]


@pytest.mark.parametrize("value", EVERY_VALUE, ids=lambda value: value._name)
def test_values_are_masked_compared_and_pickled(value):
    for text in (repr(value), str(value), f"{value}", value._repr_html_()):
        assert SECRET not in text
        assert "icechunk.credentials." + value._name in text
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value
    assert hash(copy) == hash(value)
    assert value not in [other for other in EVERY_VALUE if other is not value]
    holds_secret = SECRET.encode() in pickle.dumps(value)
    if "Refreshable(" not in repr(value) and holds_secret:
        assert SECRET in set(secrets_of(value))


def test_families():
    for family in (
        S3Credentials,
        GcsCredentials,
        GcsStaticCredentials,
        AzureCredentials,
        AzureStaticCredentials,
        AzureRefreshableCredential,
        Credentials,
    ):
        with pytest.raises(TypeError, match="use one of its nested classes"):
            family()
        assert any(isinstance(value, family) for value in EVERY_VALUE)
    assert isinstance(S3Credentials.FromEnv(), public.AnyS3Credential)
    assert isinstance(HttpAccess, Credentials.HttpAccess)


@pytest.mark.parametrize(
    "make",
    [
        lambda when: S3StaticCredentials("a", "b", expires_after=when),
        lambda when: GcsBearerCredential("a", expires_after=when),
        lambda when: AzureRefreshableCredential.SasToken("a", when),
    ],
)
def test_expiry_needs_a_time_zone(make):
    with pytest.raises(TypeError, match="non-None tzinfo"):
        make(datetime(2040, 1, 1))
    with pytest.raises(TypeError, match="must be a datetime"):
        make("tomorrow")


@pytest.mark.parametrize(
    ("picked", "expected"),
    [
        (s3_credentials(get_credentials=s3_key), S3Credentials.Refreshable(pickle.dumps(s3_key))),
        (
            s3_static_credentials(access_key_id="a", secret_access_key="b"),
            s3_credentials(access_key_id="a", secret_access_key="b"),
        ),
        (gcs_credentials(), GcsCredentials.FromEnv()),
        (gcs_credentials(from_env=True), GcsCredentials.FromEnv()),
        (gcs_credentials(anonymous=True, bearer_token="t"), GcsCredentials.Anonymous()),
        (
            gcs_credentials(get_credentials=gcs_token),
            GcsCredentials.Refreshable(pickle.dumps(gcs_token)),
        ),
        (
            gcs_credentials(get_credentials=gcs_token, from_env=False),
            GcsCredentials.Refreshable(pickle.dumps(gcs_token)),
        ),
        (
            gcs_credentials(service_account_key="k", bearer_token="t"),
            GcsCredentials.Static(GcsStaticCredentials.ServiceAccountKey("k")),
        ),
        (gcs_static_credentials(bearer_token="t"), GcsStaticCredentials.BearerToken("t")),
        (azure_credentials(), AzureCredentials.FromEnv()),
        (azure_credentials(anonymous=True), AzureCredentials.Anonymous()),
        (
            azure_credentials(get_credentials=azure_token),
            AzureCredentials.Refreshable(pickle.dumps(azure_token)),
        ),
        (
            azure_credentials(sas_token="s"),
            AzureCredentials.Static(AzureStaticCredentials.SasToken("s")),
        ),
        (azure_static_credentials(access_key="k"), AzureStaticCredentials.AccessKey("k")),
    ],
)
def test_kinds_are_picked(picked, expected):
    assert picked == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: s3_credentials(get_credentials=s3_key, anonymous=True),
        lambda: s3_credentials(get_credentials=s3_key, access_key_id="a"),
        lambda: gcs_credentials(from_env=False),
        lambda: gcs_credentials(from_env=True, bearer_token="t"),
        lambda: gcs_credentials(get_credentials=gcs_token, bearer_token="t"),
        lambda: gcs_static_credentials(),
        lambda: azure_credentials(from_env=False),
        lambda: azure_credentials(access_key="k", sas_token="s"),
        lambda: azure_credentials(get_credentials=azure_token, from_env=True),
        lambda: azure_static_credentials(),
    ],
)
def test_conflicts(make):
    with pytest.raises(ValueError, match="Conflicting arguments to"):
        make()


def test_containers():
    made = containers_credentials(
        {
            "s3://a/": s3_credentials(anonymous=True),
            "gs://b/": gcs_credentials(anonymous=True),
            "az://c/": azure_credentials(anonymous=True),
            "file:///d/": LocalFileSystemAccess,
            "http://e/": HttpAccess,
            "s3://f/": None,
        }
    )
    assert made == {
        "s3://a/": Credentials.S3(S3Credentials.Anonymous()),
        "gs://b/": Credentials.Gcs(GcsCredentials.Anonymous()),
        "az://c/": Credentials.Azure(AzureCredentials.Anonymous()),
        "file:///d/": LocalFileSystemAccess,
        "http://e/": HttpAccess,
        "s3://f/": None,
    }
    with pytest.raises(ValueError, match="Unknown credential type"):
        containers_credentials({"s3://a/": "secret"})


# Refreshing


@pytest.mark.parametrize(
    "make", [s3_refreshable_credentials, gcs_refreshable_credentials, azure_refreshable_credentials]
)
def test_functions_are_pickled_at_once(make):
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        make(lambda: None)
    with pytest.raises(ValueError, match="bad creds"):
        make(failing, scatter_initial_credentials=True)
    assert make(failing).current is None


def test_scattered_values_travel():
    made = s3_refreshable_credentials(s3_key, scatter_initial_credentials=True)
    assert len(calls) == 1
    copy = pickle.loads(pickle.dumps(made))
    assert copy.source().value(copy.current) == S3StaticCredentials("AKIAEXAMPLE", SECRET)
    assert len(calls) == 1


def test_copies_in_a_process_ask_once():
    sent = pickle.dumps(gcs_refreshable_credentials(gcs_token))

    def task(_):
        copy = pickle.loads(sent)
        return copy.source().value(copy.current)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(task, range(1000))) == {GcsBearerCredential(SECRET)}
    assert calls == ["gcs"]


def test_different_functions_have_different_values():
    one, two = (s3_refreshable_credentials(partial(s3_key, name)) for name in ("1", "2"))
    assert one.source().value().secret_access_key == "1"
    assert two.source().value().secret_access_key == "2"


class Clock:
    def __init__(self):
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.mark.parametrize("margin", [120.0, 180.0])
def test_values_are_renewed_before_they_expire(margin):
    clock = Clock()
    expiry = clock.now + timedelta(hours=1)
    function = pickle.dumps(partial(s3_key, "x", expiry))
    source = refresh.Source(
        function, (S3StaticCredentials,), clock, lambda a, b: {a: a, b: b}[margin]
    )
    source.value()
    clock.now = expiry - timedelta(seconds=margin + 1)
    source.value()
    assert len(calls) == 1
    clock.now = expiry - timedelta(seconds=margin)
    source.value()
    assert len(calls) == 2


def test_margins_are_random():
    margins = set()

    def spread(low, high):
        margins.add((low, high))
        return high

    source = refresh.Source(
        pickle.dumps(partial(s3_key, "x", SOON)), (S3StaticCredentials,), Clock(), spread
    )
    source.value()
    assert margins == {(120.0, 180.0)}


def test_initial_values_near_expiry_are_not_used():
    clock = Clock()
    source = refresh.Source(pickle.dumps(s3_key), (S3StaticCredentials,), clock)
    old = S3StaticCredentials("old", "old", expires_after=clock.now + timedelta(seconds=60))
    assert source.value(old).secret_access_key == SECRET
    assert len(calls) == 1


def test_values_without_expiry_are_not_shared_forever():
    clock = Clock()
    source = refresh.Source(pickle.dumps(s3_key), (S3StaticCredentials,), clock)
    source.value()
    clock.now += timedelta(minutes=14)
    source.value()
    assert len(calls) == 1
    clock.now += timedelta(minutes=2)
    source.value()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (gcs_token, "get_credentials must return S3StaticCredentials, not GcsBearerCredential"),
        ("no function", "not callable"),
    ],
)
def test_useless_functions(function, message):
    made = s3_refreshable_credentials(function)
    with pytest.raises(TypeError, match=message) as caught:
        made.source().value()
    assert SECRET not in str(caught.value)


def test_failures_are_not_remembered():
    source = refresh.Source(pickle.dumps(failing), (S3StaticCredentials,))
    for _ in range(2):
        with pytest.raises(ValueError, match="bad creds"):
            source.value()
    assert source.known() is None


def test_few_sources_are_remembered():
    for number in range(200):
        s3_refreshable_credentials(partial(s3_key, str(number))).source()
    assert len(refresh._sources) == refresh._MOST_SOURCES


entered, may_return = threading.Event(), threading.Event()


def slow():
    calls.append("slow")
    entered.set()
    assert may_return.wait(20)
    return S3StaticCredentials("a", "b")


def test_one_refresh_at_a_time():
    entered.clear()
    may_return.clear()
    source = s3_refreshable_credentials(slow).source()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(source.value)
        assert entered.wait(20)
        others = [pool.submit(source.value) for _ in range(3)]
        may_return.set()
        assert {run.result() for run in [first, *others]} == {S3StaticCredentials("a", "b")}
    assert calls == ["slow"]


def test_functions_are_offered_with_the_storages_too():
    from icechunk import storage

    for name in ("s3_credentials", "gcs_credentials", "azure_credentials", "GcsBearerCredential"):
        assert getattr(storage, name) is getattr(public, name)
