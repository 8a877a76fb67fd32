"""Arguments of the constructors: what is accepted, refused and shown."""

import pickle
from datetime import UTC, datetime

import pytest

from icechunk.config import StorageRetriesSettings, StorageSettings
from icechunk.errors import InvalidInputError, StorageError
from icechunk.storage import S3Credentials, S3StaticCredentials, Storage, s3_credentials, s3_storage
from icechunk.storage.s3 import S3Target

KEY = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "very-secret-thing"}


def storage(**changes):
    return s3_storage(**({"bucket": "bucket", "prefix": "a/b", **KEY} | changes))


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, S3Credentials.FromEnv),
        ({"from_env": True}, S3Credentials.FromEnv),
        ({"anonymous": False, "from_env": False}, S3Credentials.FromEnv),
        ({"anonymous": True}, S3Credentials.Anonymous),
        (KEY, S3Credentials.Static),
        (KEY | {"session_token": "t", "anonymous": False}, S3Credentials.Static),
        (KEY | {"expires_after": datetime(2030, 1, 1, tzinfo=UTC)}, S3Credentials.Static),
    ],
)
def test_credentials_are_picked(arguments, kind):
    picked = s3_credentials(**arguments)
    assert type(picked) is kind
    assert isinstance(picked, S3Credentials)
    assert pickle.loads(pickle.dumps(picked)) == picked


@pytest.mark.parametrize(
    "arguments",
    [
        {"access_key_id": "x"},
        {"secret_access_key": "x"},
        {"session_token": "x"},
        {"anonymous": True, "from_env": True},
        KEY | {"anonymous": True},
        KEY | {"from_env": True},
        {"expires_after": datetime(2030, 1, 1, tzinfo=UTC)},
    ],
)
def test_conflicting_credentials(arguments):
    with pytest.raises(ValueError, match="Conflicting arguments to s3_credentials function"):
        s3_credentials(**arguments)
    with pytest.raises(ValueError, match="Conflicting arguments"):
        s3_storage(bucket="b", prefix="p", **arguments)


def test_credentials_are_masked():
    shown = S3StaticCredentials("AKIAEXAMPLE", "very-secret-thing", "token-text")
    for text in (repr(shown), str(shown), repr(S3Credentials.Static(shown))):
        assert "AKIA****" in text
        assert "secret-thing" not in text
        assert "token-text" not in text
    with pytest.raises(TypeError, match="non-None tzinfo"):
        S3StaticCredentials("a", "b", expires_after=datetime(2030, 1, 1))


def test_representation():
    assert repr(storage()) == "<icechunk.Storage>\ntype: S3 (native)\nbucket: bucket\nprefix: a/b\n"
    full = storage(region="eu-west-1", endpoint_url="https://s3.example.org", force_path_style=True)
    assert repr(full).splitlines()[4:] == [
        "region: eu-west-1",
        "endpoint_url: https://s3.example.org",
        "force_path_style: True",
    ]
    unsigned = storage(access_key_id=None, secret_access_key=None, anonymous=True, prefix=None)
    assert repr(unsigned).splitlines()[2:] == ["bucket: bucket", "anonymous: True"]


def test_identity_hides_but_tells_apart():
    one = storage()
    assert one.identity() == storage().identity()
    assert "secret" not in repr(one.identity())
    retries = StorageSettings(retries=StorageRetriesSettings(max_tries=3))
    others = [
        storage(secret_access_key="another"),
        storage(bucket="bucket2"),
        storage(prefix="c"),
        storage(endpoint_url="https://s3.example.org"),
        storage(region="eu-west-1"),
        one.configured(retries),
    ]
    assert len({one.identity(), *(other.identity() for other in others)}) == len(others) + 1
    assert one.configured(StorageSettings()) is one
    assert one.configured(None) is one
    assert one.configured(retries).configured(StorageSettings()).identity() == one.identity()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bucket": ""}, StorageError, "bucket"),
        ({"endpoint_url": "ftp://x"}, StorageError, "not an http"),
        ({"endpoint_url": "no url"}, StorageError, "not an http"),
        ({"endpoint_url": "https://user:pass@x"}, StorageError, "more than scheme"),
        ({"endpoint_url": "https://fly.storage.tigris.dev"}, StorageError, "Tigris"),
        ({"endpoint_url": "https://t3.storage.dev"}, StorageError, "Tigris"),
        ({"prefix": "/a"}, InvalidInputError, "prefix"),
        ({"prefix": "a//b"}, InvalidInputError, "prefix"),
        ({"prefix": "a/../b"}, InvalidInputError, "prefix"),
        ({"legacy_rooted_keys": True}, StorageError, "empty prefix"),
        ({"legacy_rooted_keys": True, "prefix": ""}, StorageError, "not supported"),
        ({"checksum_algorithm": "md5"}, InvalidInputError, "checksum"),
        ({"get_credentials": print}, ValueError, "Conflicting"),
        ({"headers": {"bad name": "x"}}, ValueError, "invalid HTTP header"),
        ({"read_headers": {"name": "x\ny"}}, ValueError, "invalid HTTP header"),
    ],
)
def test_refused_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        storage(**changes)


def test_specific_headers_win():
    made = storage(headers={"A": "1", "B": "2"}, read_headers={"a": "3"})
    assert made._sending.read_headers == (("a", "3"), ("b", "2"))
    assert made._sending.write_headers == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("target", "address"),
    [
        (S3Target("bucket"), (None, True)),
        (S3Target("bucket", force_path_style=True), (None, False)),
        (S3Target("with.dots"), (None, False)),
        (S3Target("b_c", endpoint_url="https://x.org"), ("https://x.org", False)),
        (S3Target("bucket", endpoint_url="https://x.org/"), ("https://bucket.x.org", True)),
        (S3Target("bucket", endpoint_url="https://x.org:9/p"), ("https://bucket.x.org:9/p", True)),
        (S3Target("bucket", endpoint_url="http://10.0.0.1:9"), ("http://10.0.0.1:9", False)),
        (S3Target("bucket", endpoint_url="http://[::1]:9"), ("http://[::1]:9", False)),
        (S3Target("bucket", endpoint_url="http://localhost:9"), ("http://localhost:9", False)),
        (
            S3Target("bucket", endpoint_url="https://x.org", force_path_style=True),
            ("https://x.org", False),
        ),
    ],
)
def test_addressing(target, address):
    assert target.address() == address


def test_constructors_on_the_class(tmp_path):
    assert "in-memory" in repr(Storage.new_in_memory())
    assert str(tmp_path) in repr(Storage.new_local_filesystem(str(tmp_path)))


def test_making_a_storage_contacts_nobody():
    settings = storage(from_env=None).default_settings()
    assert settings.retries.max_tries == 10
    assert settings.unsafe_use_conditional_update
