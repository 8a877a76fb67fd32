"""What is concluded about a conditional write from the object found afterwards."""

import pytest

from icechunk.storage import Version
from icechunk.storage.conditional import Attempt, Found, Outcome, classify

BEFORE, AFTER = Version("before"), Version("after")
LANDED, LOST, UNKNOWN = Outcome.LANDED, Outcome.LOST, Outcome.UNKNOWN


def found(data=b"theirs", version=AFTER, write_id="their id"):
    return Found(data, version, write_id)


CASES = [
    # found afterwards, and what follows: after a refusal, after a broken connection
    (found(b"ours", AFTER, "our id"), LANDED, LANDED),
    (found(b"theirs", AFTER, "their id"), LOST, LOST),
    (found(b"ours", AFTER, "their id"), LOST, LOST),  # equal content, written by somebody else
    (found(b"ours", AFTER, None), LANDED, LANDED),  # a store without metadata
    (found(b"theirs", AFTER, None), LOST, LOST),
    (found(b"old", BEFORE, "old id"), LOST, UNKNOWN),
    (None, LOST, LOST),  # deleted meanwhile
]


@pytest.mark.parametrize(("object_found", "refused", "broken"), CASES)
def test_replacing(object_found, refused, broken):
    attempt = Attempt(b"ours", BEFORE, "our id")
    assert classify(attempt, object_found, refused=True) is refused
    assert classify(attempt, object_found, refused=False) is broken


@pytest.mark.parametrize(
    ("object_found", "refused", "broken"),
    [
        (found(b"ours", AFTER, "our id"), LANDED, LANDED),
        (found(), LOST, LOST),
        (None, LOST, UNKNOWN),
    ],
)
def test_creating(object_found, refused, broken):
    attempt = Attempt(b"ours", None, "our id")
    assert classify(attempt, object_found, refused=True) is refused
    assert classify(attempt, object_found, refused=False) is broken


def test_without_a_write_id_of_our_own_the_bytes_decide():
    attempt = Attempt(b"ours", BEFORE, None)
    assert classify(attempt, found(b"ours", AFTER, "left over"), refused=True) is LANDED
    assert classify(attempt, found(b"theirs", AFTER, "left over"), refused=True) is LOST
