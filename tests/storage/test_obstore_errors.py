"""Translation of obstore's errors: kinds, certainty, and what must not be in messages."""

import pytest
from obstore import exceptions

from icechunk.config import StorageRetriesSettings, StorageSettings, StorageTimeoutSettings
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import ObjectNotFound, PreconditionFailed, WriteOutcomeUnknown, s3_storage
from icechunk.storage.obstore_errors import had_no_effect, translate

IMPATIENT = StorageSettings(
    retries=StorageRetriesSettings(max_tries=1, initial_backoff_ms=1, max_backoff_ms=1),
    timeouts=StorageTimeoutSettings(connect_timeout_ms=500, operation_timeout_ms=500),
)
STATUS = "Server returned non-2xx status code: "


@pytest.mark.parametrize(
    ("error", "expected", "kind", "certain"),
    [
        (FileNotFoundError("x"), ObjectNotFound, ErrorKind.OBJECT_NOT_FOUND, True),
        (FileNotFoundError("NoSuchBucket"), StorageError, ErrorKind.OBJECT_STORE, True),
        (exceptions.PreconditionError("412"), PreconditionFailed, ErrorKind.OBJECT_STORE, True),
        (exceptions.AlreadyExistsError("x"), PreconditionFailed, ErrorKind.OBJECT_STORE, True),
        (exceptions.PermissionDeniedError("x"), StorageError, ErrorKind.OBJECT_STORE, True),
        (exceptions.NotSupportedError("x"), StorageError, ErrorKind.OBJECT_STORE, True),
        (exceptions.GenericError("connection reset"), StorageError, ErrorKind.OBJECT_STORE, False),
        (exceptions.GenericError(STATUS + "400 Bad"), StorageError, ErrorKind.OBJECT_STORE, True),
        (exceptions.GenericError(STATUS + "408 Time"), StorageError, ErrorKind.OBJECT_STORE, False),
        (exceptions.GenericError(STATUS + "500 Oops"), StorageError, ErrorKind.OBJECT_STORE, False),
        (
            exceptions.GenericError(STATUS + "503 Slow Down"),
            StorageError,
            ErrorKind.THROTTLED,
            False,
        ),
        (
            exceptions.GenericError(STATUS + "416 Range Not Satisfiable"),
            StorageError,
            ErrorKind.INVALID_OBJECT_SIZE,
            True,
        ),
        (
            exceptions.GenericError(
                "Wanted range starting at 10, but object was only 10 bytes long"
            ),
            StorageError,
            ErrorKind.INVALID_OBJECT_SIZE,
            False,
        ),
    ],
)
def test_kinds(error, expected, kind, certain):
    translated = translate(error, "write", "repo", "s3://bucket/p", ())
    assert type(translated) is expected
    assert translated.kind == kind
    assert "s3://bucket/p" in str(translated)
    assert had_no_effect(error) is certain


def test_messages_are_short_and_hold_no_secrets():
    text = (
        "Error performing PUT https://x.org/b/repo?X-Amz-Signature=abc123&sig=9 failed:\n"
        "<Token-0>the-session-token</Token-0>\n\nDebug source:\nGeneric { huge }"
    )
    shown = str(
        translate(
            exceptions.GenericError(text), "write", "repo", "s3://b", ["the-session-token", "zz"]
        )
    )
    assert "abc123" not in shown
    assert "session-token" not in shown
    assert "Debug" not in shown
    assert "\n" not in shown
    assert "https://x.org/b/repo?..." in shown
    long = translate(exceptions.GenericError("y" * 5000), "list", None, "s3://b", ())
    assert len(str(long)) < 700


def test_unreachable_server():
    storage = s3_storage(
        bucket="bucket",
        prefix="p",
        region="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        allow_http=True,
        access_key_id="key",
        secret_access_key="hidden-secret",
    ).configured(IMPATIENT)
    for attempt in (lambda: storage.get("repo"), lambda: storage.put("repo", b"x")):
        with pytest.raises(StorageError, match="'repo' in s3://bucket/p") as caught:
            attempt()
        assert caught.value.kind == ErrorKind.OBJECT_STORE
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert "hidden" not in str(caught.value)
        assert "Debug source" not in str(caught.value)
    with pytest.raises(WriteOutcomeUnknown):
        storage.put_if("repo", b"x", None)
