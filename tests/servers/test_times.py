"""What modification times can be relied on for: docs/servers.md has the findings as a table.

Whoever deletes by age needs to know how far a time may be from the truth, and in which direction.
"""

import time
from datetime import UTC, datetime, timedelta

SECOND = timedelta(seconds=1)
SLACK = timedelta(milliseconds=50)
"""What clocks may differ by although server and client are on one machine."""


def now():
    return datetime.now(UTC)


def listed(client):
    return {meta["path"]: meta["last_modified"] for page in client.list() for meta in page}


def test_times_are_at_most_a_second_early_and_never_late(client):
    """In listings and in lookups alike, though they may differ: one may be cut to seconds."""
    spans = {}
    for number in range(8):
        before = now()
        client.put(str(number), b"x")
        spans[str(number)] = (before, now())
        time.sleep(0.15)
    in_listings = listed(client)
    in_lookups = {key: client.head(key)["last_modified"] for key in spans}
    for key, (before, after) in spans.items():
        for told in (in_listings[key], in_lookups[key]):
            assert before - SECOND < told <= after + SLACK
    for times in (in_listings, in_lookups):
        in_order = [times[key] for key in sorted(spans)]
        assert in_order == sorted(in_order)
        assert in_order[0] < in_order[-1]


def test_overwriting_makes_young_and_copying_mostly(client, request):
    client.put("a", b"x")
    client.put("b", b"x")
    first = listed(client)
    time.sleep(1.1)
    before = now()
    client.put("a", b"x")
    client.copy("b", "c")
    for times in (listed(client), {key: client.head(key)["last_modified"] for key in "abc"}):
        assert times["a"] > before - SECOND
        assert abs(times["b"] - first["b"]) < SECOND
        if "careless_s3_server" not in request.node.name:
            assert times["c"] > before - SECOND
    if "careless_s3_server" in request.node.name:
        assert listed(client)["c"] == first["b"]
    assert listed(client)["b"] == first["b"]


def test_a_margin_of_a_second_spares_what_is_younger_than_a_deadline(client):
    client.put("old", b"x")
    time.sleep(1.2)
    deadline = now()
    for number in range(4):
        client.put(f"young {number}", b"x")
        time.sleep(0.03)
    chosen = {key for key, told in listed(client).items() if told <= deadline - SECOND}
    assert chosen == {"old"}
