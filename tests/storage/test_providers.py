"""Storages of every provider: arguments, what they show, and what they really send."""

import json
import pickle
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

import icechunk
from icechunk import Attribution, Repository
from icechunk.config import (
    ChecksumAlgorithm,
    S3Options,
    StorageRetriesSettings,
    StorageSettings,
)
from icechunk.credentials import (
    AzureCredentials,
    AzureRefreshableCredential,
    AzureStaticCredentials,
    GcsBearerCredential,
    GcsCredentials,
    S3Credentials,
    S3StaticCredentials,
)
from icechunk.errors import ErrorKind, IcechunkError, ReadOnlyError, StorageError
from icechunk.storage import (
    Storage,
    azure_storage,
    gcs_storage,
    hf_storage,
    http_storage,
    r2_storage,
    redirect_storage,
    refresh,
    s3_object_store_storage,
    s3_storage,
    tigris_storage,
)
from icechunk.storage.base import Version, WriteOutcomeUnknown

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from recording import Answer, serving

SECRET = "dmVyeS1zZWNyZXQtdGhpbmc="
KEY = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET}
ONCE = StorageSettings(retries=StorageRetriesSettings(max_tries=1))
META = {
    "etag": '"abc"',
    "x-goog-generation": "77",
    "last-modified": "Tue, 24 Nov 2026 07:40:00 GMT",
}

calls = []


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    refresh._sources.clear()
    calls.clear()
    # Nothing of the machine's may count here, nor may anything look for credentials elsewhere.
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


def s3(url="https://s3.example.org", **changes):
    given = {"bucket": "bucket", "prefix": "a/b", "region": "us-east-1", "endpoint_url": url}
    return s3_storage(**(given | {"allow_http": True, "force_path_style": True} | KEY | changes))


def gcs(url="https://gcs.example.org", **changes):
    given = {"bucket": "bucket", "prefix": "a/b", "bearer_token": SECRET}
    return gcs_storage(**(given | {"config": {"base_url": url, "allow_http": "true"}} | changes))


def azure(url="https://azure.example.org", **changes):
    config = {"endpoint": f"{url}/account", "allow_http": "true"}
    given = {"account": "account", "container": "bucket", "prefix": "a/b", "config": config}
    return azure_storage(**(given | {"access_key": SECRET} | changes))


def s3_key():
    calls.append("s3")
    return S3StaticCredentials("AKIAREFRESHED", SECRET)


def gcs_token():
    calls.append("gcs")
    return GcsBearerCredential(SECRET)


def azure_sas():
    calls.append("azure")
    return AzureRefreshableCredential.SasToken("sv=1&sig=" + "c2lnbmF0dXJl", None)


def failing():
    raise ValueError("bad creds")


# Arguments


SHOWN = [
    (
        s3_object_store_storage(bucket="b", prefix="p", region="r", **KEY),
        ["type: S3", "bucket: b", "prefix: p", "region: r"],
    ),
    (
        tigris_storage(bucket="b", prefix="p", region="iad", **KEY),
        [
            "type: S3 (native)",
            "bucket: b",
            "prefix: p",
            "region: iad",
            "endpoint_url: https://t3.storage.dev",
        ],
    ),
    (
        r2_storage(prefix="b/x/y", account_id="acc", **KEY),
        [
            "type: S3 (native)",
            "bucket: b",
            "prefix: x/y",
            "region: auto",
            "endpoint_url: https://acc.r2.cloudflarestorage.com",
            "force_path_style: True",
        ],
    ),
    (
        hf_storage(bucket="b", prefix="p", namespace="ns", **KEY),
        [
            "type: S3 (native)",
            "bucket: b",
            "prefix: p",
            "region: us-east-1",
            "endpoint_url: https://s3.hf.co/ns",
            "force_path_style: True",
        ],
    ),
    (
        gcs(config={"base_url": "http://x", "bearer_token": SECRET}, headers={"x-a": SECRET}),
        ["type: GCS", "bucket: bucket", "prefix: a/b"],
    ),
    (
        gcs(bearer_token=None, anonymous=True, prefix=None),
        [
            "type: GCS",
            "bucket: bucket",
            "anonymous: True",
        ],
    ),
    (azure(), ["type: Azure", "account: account", "container: bucket", "prefix: a/b"]),
    (
        http_storage("http://localhost:1/a/b/", {"unknown": "1"}, {"authorization": SECRET}),
        ["type: HTTP", "url: http://localhost:1/a/b"],
    ),
    (
        redirect_storage("http://localhost:1/a/b"),
        [
            "type: redirect",
            "url: http://localhost:1/a/b",
        ],
    ),
]


@pytest.mark.parametrize(("made", "lines"), SHOWN, ids=lambda value: repr(value)[:40])
def test_what_storages_show(made, lines):
    assert repr(made).splitlines() == ["<icechunk.Storage>", *lines]
    assert SECRET not in repr(made) + str(made) + made._repr_html_()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: r2_storage(**KEY), "storage-config", "Either bucket or prefix"),
        (lambda: r2_storage(bucket="b", **KEY), "storage-config", "Either endpoint_url or"),
        (lambda: r2_storage(prefix="", account_id="a", **KEY), "storage-config", "bucket"),
        (lambda: tigris_storage(bucket="b", prefix="p", **KEY), "storage-other", "region"),
        (lambda: s3("https://t3.storage.dev"), "storage-other", "Tigris"),
        (
            lambda: s3_object_store_storage(
                bucket="b", prefix="p", endpoint_url="https://fly.storage.tigris.dev", **KEY
            ),
            "storage-other",
            "Tigris",
        ),
        (
            lambda: r2_storage(bucket="b", prefix="p", endpoint_url="https://t3.storage.dev"),
            "storage-other",
            "Tigris",
        ),
        (lambda: s3(legacy_rooted_keys=True), "storage-other", "empty prefix"),
        (lambda: s3(legacy_rooted_keys=True, prefix=None), "unimplemented", "not supported"),
        (lambda: s3(checksum_algorithm=ChecksumAlgorithm.Sha1), "storage-config", "checksum"),
        (lambda: gcs(bucket=""), "storage-config", "bucket"),
        (lambda: gcs(prefix="/a"), "bad-prefix", "prefix"),
        (lambda: azure(account=""), "storage-config", "storage account"),
        (lambda: azure(container=""), "storage-config", "container"),
        (lambda: http_storage("localhost"), "cannot-parse-url", "localhost"),
        (lambda: http_storage("ftp://localhost"), "cannot-parse-url", "ftp"),
        (lambda: http_storage(f"http://user:{SECRET}@x"), "cannot-parse-url", "more than"),
        (lambda: redirect_storage("foo"), "cannot-parse-url", "foo"),
        (
            lambda: http_storage("http://x", {"proxy_url": "http://y"}, {"x-key": SECRET}),
            "storage-config",
            "behind a proxy",
        ),
    ],
)
def test_refused_arguments(make, kind, message):
    with pytest.raises(IcechunkError, match=message) as caught:
        make()
    assert caught.value.kind == kind
    assert SECRET not in str(caught.value)


def test_prefixes_of_azure_are_text():
    with pytest.raises(TypeError, match="prefix must be str"):
        azure(prefix=None)


@pytest.mark.parametrize("make", [s3, gcs, lambda **more: http_storage("http://x", **more)])
def test_headers_are_checked(make):
    with pytest.raises(ValueError, match="invalid HTTP header") as caught:
        make(headers={"x-a": SECRET + "\n"})
    assert SECRET not in str(caught.value)


def test_checksums_by_the_name_of_the_enumeration():
    for algorithm in (ChecksumAlgorithm.Sha256, "sha256"):
        assert s3(checksum_algorithm=algorithm)._target.checksum_algorithm == "sha256"
        made = r2_storage(bucket="b", account_id="a", checksum_algorithm=algorithm, **KEY)
        assert made._target.checksum_algorithm == "sha256"


def test_names_stand_in_keys_as_the_reference_has_them():
    for storage, _ in SHOWN:
        text = repr(storage)
        if "redirect" not in text:  # which is as where it leads, and nothing is there
            assert storage.names_verbatim == ("type: S3 (native)" in text)


def test_constructors_on_the_class():
    options = S3Options(region="iad", endpoint_url="https://s3.example.org", anonymous=True)
    unsigned = S3Credentials.Anonymous()
    assert "anonymous: True" in repr(Storage.new_s3(options, "b", "p"))
    assert "type: S3\n" in repr(Storage.new_s3_object_store(options, "b", "p", unsigned))
    assert "force_path_style" in repr(Storage.new_r2(options, None, "b/p", None, unsigned))
    assert "region: iad" in repr(Storage.new_tigris(options, "b", "p", False, unsigned))
    assert "type: S3" in repr(Storage.new_hf(options, "b", "p", "ns", unsigned))
    made = Storage.new_gcs("b", "p", GcsCredentials.Anonymous(), read_headers={"a": "1"})
    assert made._sending.read_headers == (("a", "1"),)
    key = AzureCredentials.Static(AzureStaticCredentials.AccessKey(SECRET))
    assert "type: Azure" in repr(Storage.new_azure_blob("a", "c", "p", key))
    assert "type: HTTP" in repr(Storage.new_http("http://x", {"timeout": "1s"}, {"a": "1"}))
    assert "type: redirect" in repr(Storage.new_redirect("http://x"))
    for wrong in (
        lambda: Storage.new_s3(options, "b", "p", key),
        lambda: Storage.new_gcs("b", "p", key),
        lambda: Storage.new_azure_blob("a", "c", "p", unsigned),
    ):
        with pytest.raises(TypeError, match="credentials must be"):
            wrong()


def test_default_settings():
    for made in (s3(), gcs(), azure(), tigris_storage(bucket="b", prefix="p", region="r", **KEY)):
        assert made.default_settings().unsafe_use_metadata is True
        assert made.default_settings().retries.max_tries == 10
    bucket = hf_storage(bucket="b", prefix="p", namespace="n", **KEY)
    assert bucket.default_settings().unsafe_use_metadata is False
    assert bucket._tuning.metadata is False
    assert bucket.configured(ONCE)._tuning.metadata is False
    assert bucket.configured(StorageSettings(unsafe_use_metadata=True))._tuning.metadata is True


@pytest.mark.parametrize("make", [s3, gcs, azure])
def test_identities_and_pickles(make):
    one = make()
    copy = pickle.loads(pickle.dumps(one))
    assert copy.identity() == one.identity() == make().identity()
    assert repr(copy) == repr(one)
    assert SECRET not in repr(one.identity())
    others = [
        make(prefix="c"),
        make("https://elsewhere.example.org"),
        one.configured(ONCE),
        one.attributed(Attribution(client="a")),
    ]
    assert len({one.identity(), *(other.identity() for other in others)}) == len(others) + 1
    assert one.configured(StorageSettings()) is one


def test_credentials_are_part_of_identities():
    function = partial(s3_key)
    made = [
        gcs(),
        gcs(bearer_token="another"),
        gcs(bearer_token=None, service_account_key="key"),
        gcs(bearer_token=None, anonymous=True),
        gcs(bearer_token=None, get_credentials=gcs_token),
        gcs(bearer_token=None, get_credentials=function),
    ]
    assert len({storage.identity() for storage in made}) == len(made)


# Attribution


@pytest.mark.parametrize(
    "arguments",
    [
        {"client": "a b"},
        {"client": "a/b/c"},
        {"client": ""},
        {"client": "a/"},
        {"client": "x" * 129},
        {"workload": "(x"},
        {"workload": "a;b"},
        {"principal": "é"},
        {"principal": "x\n"},
        {"principal": "x" * 129},
    ],
)
def test_refused_attributions(arguments):
    with pytest.raises(ValueError, match="attribution `"):
        Attribution(**arguments)


def test_attributions_show_themselves():
    made = Attribution(client="a/1", workload="w x")
    assert eval(repr(made), {"icechunk": icechunk}) == made
    assert str(made).splitlines() == [
        "<icechunk.Attribution>",
        'client: "a/1"',
        'workload: "w x"',
        "principal: None",
    ]
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(TypeError, match=r"must be an icechunk\.Attribution"):
        Repository.create(icechunk.in_memory_storage(), attribution="me")


def test_repositories_send_their_attribution():
    me = Attribution(client="app/1", workload="night run", principal="me")
    with serving() as server:
        with pytest.raises(IcechunkError):
            Repository.open(s3(server.url), attribution=me)
        with pytest.raises(IcechunkError):
            Repository.open(http_storage(server.url), attribution=Attribution(client="app"))
        with pytest.raises(IcechunkError):
            Repository.open(http_storage(server.url))
    agents = set(server.sent("user-agent"))
    own = icechunk.user_agent()
    assert agents == {f"app/1 {own} (workload=night run; principal=me)", f"app {own}", own}


# Requests


def found(request):
    return Answer(200 if request.method in ("GET", "HEAD") else 201, META, b"hello")


@pytest.mark.parametrize(
    ("make", "authorization"),
    [
        (s3, "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"),
        (gcs, f"Bearer {SECRET}"),
        (azure, "SharedKey account:"),
        (partial(azure, access_key=None, bearer_token=SECRET), f"Bearer {SECRET}"),
    ],
)
def test_static_credentials_are_sent(make, authorization):
    with serving(found) as server:
        storage = make(server.url).configured(ONCE)
        assert storage.get("repo") == b"hello"
        storage.put("repo", b"x")
    assert len(server.requests) == 2
    assert all(value.startswith(authorization) for value in server.sent("authorization"))
    assert {request.path for request in server.requests} <= {
        "/bucket/a/b/repo",
        "/bucket/a%2Fb%2Frepo",
        "/account/bucket/a/b/repo",
    }


@pytest.mark.parametrize(
    "make",
    [
        partial(s3, access_key_id=None, secret_access_key=None, anonymous=True),
        partial(gcs, bearer_token=None, anonymous=True),
        partial(azure, access_key=None, anonymous=True),
    ],
)
def test_anonymous_requests_carry_nothing(make):
    with serving(found) as server:
        storage = make(server.url).configured(ONCE)
        assert storage.get("repo") == b"hello"
        assert storage.head("repo").size == 5
        storage.put("repo", b"x")
        storage.put_if("repo", b"x", None)
    values = set(server.sent("authorization"))
    assert values <= {None, "Bearer anonymous"}
    assert server.requests[0].headers.get("authorization") is None


def test_unsigned_by_configuration():
    for name in ("skip_signature", "GOOGLE_SKIP_SIGNATURE"):
        made = gcs_storage(bucket="b", prefix="p", config={name: "true"})
        assert made._credentials == GcsCredentials.Anonymous()
    made = azure_storage(account="a", container="c", prefix="p", config={"skip_signature": "true"})
    assert made._credentials == AzureCredentials.Anonymous()


@pytest.mark.parametrize("given", [{}, {"anonymous": True}], ids=["token", "anonymous"])
def test_the_environment_does_not_say_where_requests_go(monkeypatch, given):
    elsewhere = "https://elsewhere.example.org"
    account = {"gcs_base_url": elsewhere, "disable_oauth": True, "client_email": ""}
    account |= {"private_key": "", "private_key_id": ""}
    for name, value in {
        "GOOGLE_BASE_URL": elsewhere,
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
        "AZURE_STORAGE_ENDPOINT": elsewhere,
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_USE_FABRIC_ENDPOINT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    made = gcs(config={}, **given)
    assert made._make_client(writing=False).config["base_url"] == "https://storage.googleapis.com"
    made = azure(config={}, **given)._make_client(writing=False).config
    assert made["endpoint"] == "https://account.blob.core.windows.net"
    assert (made["use_emulator"], made["use_fabric_endpoint"]) == ("false", "false")
    with serving(found) as server:
        for make in (gcs, azure):
            assert make(server.url, **given).configured(ONCE).get("repo") == b"hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize("named", [None, "https://account.example.org"])
def test_the_file_of_a_service_account_may_say_where_requests_go(monkeypatch, tmp_path, named):
    monkeypatch.setenv("GOOGLE_BASE_URL", "https://elsewhere.example.org")
    account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    text = json.dumps(account if named is None else account | {"gcs_base_url": named})
    file = tmp_path / "account.json"
    file.write_text(text)
    for given in ({"service_account_key": text}, {"service_account_file": str(file)}):
        made = gcs(config={}, bearer_token=None, **given)._make_client(writing=False)
        assert made.config["base_url"] == (named or "https://storage.googleapis.com")


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"gcs_base_url": 5}', "\udc80"])
def test_files_that_are_of_no_service_account(tmp_path, text):
    file = tmp_path / "account.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    for given in ({"service_account_key": text}, {"service_account_file": str(file)}):
        with pytest.raises(StorageError, match="could not make a client") as caught:
            gcs(config={}, bearer_token=None, **given).get("repo")
        assert caught.value.kind == ErrorKind.STORAGE_CONFIG
    with pytest.raises(StorageError, match="could not make a client"):
        gcs(config={}, bearer_token=None, service_account_file="none.json").get("repo")


def test_places_can_be_given_by_any_name():
    for config in ({"use_emulator": "true"}, {"azure_storage_use_emulator": "true"}):
        made = azure(config=config)._make_client(writing=False).config
        assert "endpoint" not in made
        assert made["use_emulator"] == "true"
    for name in ("base_url", "google_base_url"):
        made = gcs(config={name: "https://x.example.org"})._make_client(writing=False)
        assert made.config["base_url"] == "https://x.example.org"
    from_env = gcs(config={}, bearer_token=None, from_env=True)._make_client(writing=False)
    assert "base_url" not in from_env.config


@pytest.mark.parametrize(
    ("make", "variable", "value"),
    [
        (gcs, "GOOGLE_SERVICE_ACCOUNT", "/none.json"),
        (azure, "AZURE_STORAGE_ENCRYPTION_KEY", SECRET),
    ],
)
def test_clients_that_the_environment_prevents(monkeypatch, make, variable, value):
    """Nothing has been sent, so nothing is in doubt; and the message names the culprit."""
    monkeypatch.setenv(variable, value)
    storage = make()
    for attempt in (lambda: storage.put_if("repo", b"x", None), lambda: storage.get("repo")):
        with pytest.raises(StorageError, match=rf"{variable}.* unset") as caught:
            attempt()
        assert caught.value.kind == ErrorKind.STORAGE_CONFIG
        assert not isinstance(caught.value, WriteOutcomeUnknown)
        assert SECRET not in str(caught.value)


def moved_to(other):
    elsewhere = other.url.replace("127.0.0.1", "localhost")
    return lambda request: Answer(307, {"location": elsewhere + request.path})


@pytest.mark.parametrize(
    "make", [s3, gcs, partial(gcs, bearer_token=None, anonymous=True)], ids=["s3", "gcs", "open"]
)
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"], ids=["direct", "proxy"])
def test_headers_stay_at_their_host(monkeypatch, make, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if proxy:  # which would answer for the host itself, were it not excepted
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with serving(found) as other, serving(moved_to(other)) as server:
        assert make(server.url).configured(ONCE).get("repo") == b"hello"
        other.requests.clear()
        storage = make(server.url, headers={"X-Key": SECRET}).configured(ONCE)
        if proxy:
            assert storage.get("repo") == b"hello"
            return
        with pytest.raises(StorageError) as caught:
            storage.get("repo")
        with pytest.raises(StorageError):
            storage.put_if("repo", b"x", None)
        assert SECRET not in str(caught.value)
    assert not other.requests
    assert set(server.sent("x-key")) == {None, SECRET}


def test_where_headers_may_go():
    given = {"headers": {"X-Key": SECRET}}
    made = s3(endpoint_url=None, **given)._client_options(writing=True)
    assert made["proxy_excludes"] == "amazonaws.com,amazonaws.com.cn"
    assert (
        "storage.googleapis.com" in gcs(config={}, **given)._client_options(writing=False).values()
    )
    for storage in (
        s3(access_key_id=None, secret_access_key=None, from_env=True, **given),
        gcs(bearer_token=None, from_env=True, **given),
        gcs(config={"proxy_url": "http://proxy.example.org"}, **given),
        s3(read_headers={"x-key": SECRET}),
        tigris_storage(bucket="b", prefix="p", region="r", **KEY),
    ):
        made = storage._client_options(writing=True)
        assert "proxy_excludes" not in made


def test_sas_tokens_are_sent_and_not_told():
    def refused(request):
        return Answer(403, {}, b"the signature was sig=c2lnbmF0dXJl")

    with serving(refused) as server:
        storage = azure(server.url, access_key=None, sas_token="?sv=1&sig=c2lnbmF0dXJl")
        with pytest.raises(StorageError) as caught:
            storage.configured(ONCE).get("repo")
    assert server.requests[0].path.endswith("?sv=1&sig=c2lnbmF0dXJl")
    assert "c2lnbmF0dXJl" not in str(caught.value) + repr(storage)


@pytest.mark.parametrize(
    ("make", "authorization"),
    [
        (
            partial(s3, access_key_id=None, secret_access_key=None, get_credentials=s3_key),
            "AWS4-HMAC-SHA256 Credential=AKIAREFRESHED/",
        ),
        (partial(gcs, bearer_token=None, get_credentials=gcs_token), f"Bearer {SECRET}"),
    ],
)
def test_many_copies_ask_for_credentials_once(make, authorization):
    with serving(found) as server:
        sent = pickle.dumps(make(server.url).configured(ONCE))
        for _ in range(20):
            assert pickle.loads(sent).get("repo") == b"hello"
    assert len(calls) == 1
    assert all(value.startswith(authorization) for value in server.sent("authorization"))


def test_refreshable_credentials_of_azure():
    credentials = icechunk.azure_credentials(get_credentials=azure_sas)
    with serving(found) as server:
        config = {"endpoint": f"{server.url}/account", "allow_http": "true"}
        storage = Storage.new_azure_blob("account", "bucket", "p", credentials, config=config)
        storage = storage.configured(ONCE)
        storage.get("repo")
        storage.get("repo")
    assert [request.path for request in server.requests] == [
        "/account/bucket/p/repo?sv=1&sig=c2lnbmF0dXJl"
    ] * 2
    assert calls == ["azure"]


@pytest.mark.parametrize(
    ("function", "message"),
    [(failing, "bad creds"), (gcs_token, "S3StaticCredentials"), ("text", "not callable")],
)
def test_useless_functions_are_told(function, message):
    storage = s3(access_key_id=None, secret_access_key=None, get_credentials=function)
    for request in (
        lambda: storage.get("repo"),
        lambda: storage.put_if("repo", b"", None),
        lambda: Repository.open(storage),
    ):
        with pytest.raises(IcechunkError, match=message) as caught:
            request()
        assert SECRET not in str(caught.value)


def test_headers_by_role_survive_pickles():
    with serving(found) as server:
        for make in (s3, gcs):
            storage = make(
                server.url,
                headers={"X-All": "1", "X-Role": "any"},
                read_headers={"x-role": "read"},
                write_headers={"x-role": "write"},
            )
            storage = pickle.loads(pickle.dumps(storage.configured(ONCE)))
            storage.get("repo")
            storage.put("repo", b"x")
    assert server.sent("x-all") == ["1"] * 4
    assert server.sent("x-role") == ["read", "write"] * 2


def test_consistency_of_tigris():
    with serving(found) as server:
        given = {"bucket": "b", "prefix": "p", "endpoint_url": server.url, "allow_http": True} | KEY
        strong = tigris_storage(
            region="iad", headers={"x-tigris-consistent": "false"}, **given
        ).configured(ONCE)
        strong.get("repo")
        strong.put("repo", b"x")
        weak = tigris_storage(use_weak_consistency=True, **given).configured(ONCE)
        weak.get("repo")
        for write in (
            lambda: weak.put("repo", b"x"),
            lambda: weak.put_new("repo", b"x"),
            lambda: weak.put_if("repo", b"x", None),
            lambda: weak.copy("repo", "other"),
            lambda: weak.delete(["repo"]),
        ):
            with pytest.raises(ReadOnlyError, match="read-only") as caught:
                write()
            assert caught.value.kind == ErrorKind.READ_ONLY_STORAGE
        with pytest.raises(ReadOnlyError):
            Repository.create(weak)
    assert server.sent("x-tigris-consistent") == ["true", "true", None]
    assert server.sent("x-tigris-regions") == ["iad", "iad", None]
    assert server.sent("cache-control") == ["no-cache", "no-cache", None]


def test_google_compares_generations():
    with serving(found) as server:
        storage = gcs(server.url).configured(ONCE)
        data, version = storage.get_versioned("repo")
        assert (data, version) == (b"hello", Version("abc", "77"))
        storage.put_if("repo", b"x", version)
        storage.put_if("repo", b"x", None)
    assert server.sent("x-goog-if-generation-match") == [None, "77", "0"]


@pytest.mark.parametrize(
    ("make", "header"),
    [
        (s3, "x-amz-storage-class"),
        (gcs, "x-goog-storage-class"),
        (azure, "x-ms-access-tier"),
    ],
)
def test_storage_classes_are_sent(make, header):
    settings = StorageSettings(
        metadata_storage_class="META", chunks_storage_class="COLD", retries=ONCE.retries
    )
    with serving(found) as server:
        storage = make(server.url).configured(settings)
        storage.put_new("chunks/1", b"x")
        storage.put_new("snapshots/1", b"x")
        storage.put("config.yaml", b"x")
    assert server.sent(header) == ["COLD", "META", None]


def test_tries_are_counted():
    with serving(lambda request: Answer(503)) as server:
        settings = StorageSettings(
            retries=StorageRetriesSettings(max_tries=3, initial_backoff_ms=1, max_backoff_ms=1)
        )
        for make in (s3, gcs, azure):
            with pytest.raises(StorageError):
                make(server.url).configured(settings).get("repo")
    assert len(server.requests) == 9


def test_unknown_settings_are_not_ignored():
    for made in (gcs(config={"no_such": "1"}), azure(config={"no_such": "1"})):
        with pytest.raises(StorageError, match="no_such"):
            made.get("repo")


def test_client_options_are_passed_on():
    with serving(found) as server:
        config = {"base_url": server.url, "ALLOW_HTTP": "true", "user_agent": "mine"}
        gcs(config=config).get("repo")
        http_storage(server.url, {"user_agent": "mine", "unknown": "x"}).get("repo")
    assert server.sent("user-agent") == ["mine", "mine"]


def test_expiry_in_the_near_future_is_no_obstacle():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    credentials = S3Credentials.Refreshable(
        pickle.dumps(s3_key), S3StaticCredentials("old", "old", expires_after=soon)
    )
    with serving(found) as server:
        options = S3Options(
            region="us-east-1", endpoint_url=server.url, allow_http=True, force_path_style=True
        )
        Storage.new_s3(options, "b", "p", credentials).get("repo")
    assert "AKIAREFRESHED" in server.sent("authorization")[0]


def test_secrets_are_neither_logged_nor_told(caplog):
    caplog.set_level(0)
    icechunk.set_logs_filter("trace")
    told = f"{SECRET} AKIAREFRESHED"
    try:
        with serving(lambda request: Answer(400, {}, told.encode())) as server:
            for storage in (
                s3(server.url),
                s3(server.url, access_key_id=None, secret_access_key=None, get_credentials=s3_key),
                gcs(server.url),
                gcs(server.url, bearer_token=None, get_credentials=gcs_token),
                azure(server.url),
                gcs(server.url, bearer_token=None, anonymous=True, headers={"x-a": SECRET}),
            ):
                with pytest.raises(IcechunkError) as caught:
                    Repository.open(storage.configured(ONCE))
                error = caught.value
                told = str(error) + repr(error) + repr(error.__cause__) + repr(error.__context__)
                assert "400" in told
                assert SECRET not in told + repr(storage) + str(storage)
    finally:
        icechunk.set_logs_filter(None)
    assert server.requests
    assert SECRET not in caplog.text


def test_a_repository_opens_without_the_right_to_list(tmp_path):
    written = Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    written.create_tag("t", written.lookup_branch("main"))

    def answer(request):
        path = request.path.partition("?")[0].removeprefix("/bucket/a/b/")
        if "list-type" in request.path or request.method != "GET":
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        file = tmp_path / path
        if not file.is_file():
            return Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
        return Answer(200, META, file.read_bytes())

    with serving(answer) as server:
        repo = Repository.open(s3(server.url).configured(ONCE))
        assert repo.list_branches() == {"main"}
        assert repo.list_tags() == {"t"}
        assert repo.readonly_session(tag="t").snapshot_id
        assert not any("list-type" in request.path for request in server.requests)
        with pytest.raises(StorageError, match="AccessDenied"):
            list(s3(server.url).configured(ONCE).list())
