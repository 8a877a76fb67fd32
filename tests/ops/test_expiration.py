"""What expires, compared with sets and lists; the table is that of a random history."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import FormatError, InvalidInputError
from icechunk.format.ids import encode_id
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.ops.expiration import Bounds, Rule, find_expired, state_after
from icechunk.ops.expiration_plan import ExpirationPlan, plan_of, rule_of


def snap(number):
    return (number + 1).to_bytes(12, "little")  # ids do not sort by age


def info_of(entries, branches, tags=None, deleted_tags=()):
    return RepoInfo(
        SnapshotTable.from_entries(entries), branches=branches, tags=tags or {},
        deleted_tags=deleted_tags,
    )  # fmt: skip


@st.composite
def states(draw):
    count = draw(st.integers(1, 14))
    entries = []
    for number in range(count):
        parent = None if number == 0 else snap(draw(st.integers(max(0, number - 4), number - 1)))
        logs = tuple(snap(100 + log) for log in draw(st.lists(st.integers(0, 9), max_size=2)))
        entries.append(SnapshotEntry(snap(number), parent, 10 * number, str(number), pruned=logs))
    one = st.integers(0, count - 1).map(snap)
    branches = {**draw(st.dictionaries(st.sampled_from("abc"), one)), "main": draw(one)}
    tags = draw(st.dictionaries(st.sampled_from("stu"), one))
    return info_of(entries, branches, tags, ("r",))


def expected(info, older_than, branches_go, tags_go):
    """The rules, one snapshot after the other."""
    entries = {entry.id: entry for entry in info.snapshots}

    def is_old(snapshot):
        entry = entries[snapshot]
        return entry.flushed_at < older_than and entry.parent_id is not None

    branches = {
        name: tip
        for name, tip in info.branches.items()
        if name == "main" or not (branches_go and is_old(tip))
    }
    tags = {name: tip for name, tip in info.tags.items() if not (tags_go and is_old(tip))}
    kept = {*branches.values(), *tags.values()}
    released = {snapshot for snapshot in entries if is_old(snapshot) and snapshot not in kept}
    remaining = []
    for entry in info.snapshots:
        if entry.id in released:
            continue
        if entry.parent_id in released:
            logs = entry.pruned
            above = entries[entry.parent_id]
            while above.parent_id is not None:
                logs = (*above.pruned, above.id, *logs)
                above = entries[above.parent_id]
            entry = replace(entry, parent_id=above.id, pruned=logs)
        remaining.append(entry)
    return replace(
        info,
        snapshots=SnapshotTable.from_entries(remaining),
        branches=branches,
        tags=tags,
        deleted_tags=tuple(sorted({*info.deleted_tags, *info.tags} - set(tags))),
    )


def expired_state(info, older_than, **flags):
    return state_after(info, find_expired(info, Rule(older_than, **flags)))


@settings(max_examples=150 * EFFORT)
@given(states(), st.integers(-20, 150), st.booleans(), st.booleans())
def test_any_history(info, older_than, branches_go, tags_go):
    flags = {"delete_expired_branches": branches_go, "delete_expired_tags": tags_go}
    after = expired_state(info, older_than, **flags)
    assert after == expected(info, older_than, branches_go, tags_go)
    assert expired_state(after, older_than, **flags) == after


def example():
    """Old: m1, m2 on main, tag t at m1, branch old with o1 on m1; new: m3, m4 on main."""
    ids = {name: snap(number) for number, name in enumerate(["root", "m1", "m2", "o1", "m3", "m4"])}
    parents = {"m1": "root", "m2": "m1", "o1": "m1", "m3": "m2", "m4": "m3"}
    entries = [
        SnapshotEntry(ids[name], ids.get(parents.get(name)), 10 * at, name)
        for at, name in enumerate(ids)
    ]
    return ids, info_of(entries, {"main": ids["m4"], "old": ids["o1"]}, {"t": ids["m1"]})


OLD = 40  # o1 is older, m3 is not


def test_the_walk_goes_on_below_what_a_tag_keeps():
    ids, info = example()
    after = expired_state(info, OLD).snapshots
    assert len(after) == 5
    assert ids["m2"] not in after
    m3 = after.info(ids["m3"])
    assert (m3.parent_id, m3.pruned) == (ids["root"], (ids["m1"], ids["m2"]))
    assert after.info(ids["o1"]).parent_id == ids["m1"]


def test_refs_go_if_wanted():
    ids, info = example()
    after = expired_state(info, OLD, delete_expired_branches=True, delete_expired_tags=True)
    assert (after.branches, after.tags, after.deleted_tags) == ({"main": ids["m4"]}, {}, ("t",))
    assert {entry.message for entry in after.snapshots} == {"root", "m3", "m4"}


def test_everything_has_expired():
    ids, info = example()
    after = expired_state(info, 10**18, delete_expired_branches=True, delete_expired_tags=True)
    assert {entry.message for entry in after.snapshots} == {"root", "m4"}
    assert after.snapshots.info(ids["m4"]).pruned == (ids["m1"], ids["m2"], ids["m3"])


@pytest.mark.parametrize("older_than", [-(10**18), 0, 10])
def test_nothing_has_expired(older_than):
    _, info = example()
    assert expired_state(info, older_than) == info


def test_a_long_history_with_many_tags():
    """Walks share what they have in common: this would take minutes otherwise."""
    count = 10_000
    entries = [
        SnapshotEntry(snap(n), None if n == 0 else snap(n - 1), n, "", pruned=(snap(10**6 + n),))
        for n in range(count)
    ]
    tags = {f"t{n}": snap(n) for n in range(100, count, 100)}
    info = info_of(entries, {"main": snap(count - 1)}, tags)
    after = expired_state(info, count - 50)
    assert len(after.snapshots) == 1 + len(tags) + 50
    logs = after.snapshots.info(snap(9900)).pruned
    assert len(logs) == 2 * 9899 + 1
    assert logs[:2] == (snap(10**6 + 1), snap(1))
    assert logs[-3:] == (snap(10**6 + 9899), snap(9899), snap(10**6 + 9900))


# --- plans ---------------------------------------------------------------------------------------


def planned(info, older_than, **flags):
    rule = Rule(older_than, **flags)
    return plan_of(info, rule, find_expired(info, rule))


def run(info, plan):
    found = find_expired(info, rule_of(plan))
    return state_after(info, found)


BOTH = {"delete_expired_branches": True, "delete_expired_tags": True}


@given(states(), st.integers(-20, 150), st.booleans(), st.booleans())
def test_a_plan_run_at_once_does_the_same(info, older_than, branches_go, tags_go):
    flags = {"delete_expired_branches": branches_go, "delete_expired_tags": tags_go}
    plan = ExpirationPlan.from_json(planned(info, max(older_than, 0), **flags).to_json())
    after = run(info, plan)
    assert after == expired_state(info, older_than, **flags)
    assert run(after, plan) == after
    stays = {encode_id(entry.id) for entry in after.snapshots}
    assert {encode_id(e.id) for e in info.snapshots} - stays == {s.id for s in plan.released}
    for item in plan.reparented:
        entry = next(entry for entry in after.snapshots if encode_id(entry.id) == item.id)
        assert encode_id(entry.parent_id) == item.new_parent_id
        assert tuple(map(encode_id, entry.pruned)) == item.inherited_logs


@given(states(), states(), st.integers(0, 150), st.integers(0, 150))
def test_an_old_plan_does_no_more_than_it_says_and_no_more_than_holds(one, other, first, second):
    plan = planned(one, first, **BOTH)
    after = run(other, plan)
    now = expired_state(other, first, **BOTH)
    gone = {entry.id for entry in other.snapshots} - {entry.id for entry in after.snapshots}
    assert {encode_id(snapshot) for snapshot in gone} <= {item.id for item in plan.released}
    assert gone <= {e.id for e in other.snapshots} - {e.id for e in now.snapshots}
    for name in set(other.branches) - set(after.branches):
        assert plan.branches[name] == encode_id(other.branches[name])
    for refs in (after.branches, after.tags):
        assert all(tip in after.snapshots for tip in refs.values())


def test_what_a_plan_says():
    ids, info = example()
    plan = planned(info, OLD)
    assert [item.message for item in plan.released] == ["m2"]
    assert [(item.message, item.kept_by) for item in plan.held] == [
        ("m1", ("tag t",)),
        ("o1", ("branch old",)),
    ]
    (m3,) = plan.reparented
    assert (m3.id, m3.parent_id) == (encode_id(ids["m3"]), encode_id(ids["m2"]))
    assert m3.new_parent_id == encode_id(ids["root"])
    assert m3.inherited_logs == (encode_id(ids["m1"]), encode_id(ids["m2"]))
    assert planned(info, OLD, **BOTH).branches == {"old": encode_id(ids["o1"])}
    text = repr(plan)
    assert text.startswith("<icechunk.ops.ExpirationPlan>\n")
    assert f"{encode_id(ids['m1'])} written 1970-01-01 00:00:00, 'm1', kept by tag t" in text
    assert "branches: none" in text
    assert "kept by tag t" in plan._repr_html_()
    assert "in no history" not in text


def test_what_was_left_behind_is_said_so():
    ids, info = example()
    plan = planned(replace(info, branches={"main": ids["m4"]}), OLD)
    assert [(item.message, item.is_reachable) for item in plan.released] == [
        ("m2", True),
        ("o1", False),
    ]
    assert "'o1', in no history" in repr(plan)


def test_a_plan_written_by_hand():
    plan = ExpirationPlan(datetime(2020, 1, 1, tzinfo=UTC), branches={"a": "x"})
    with pytest.raises(InvalidInputError, match="'x'") as caught:
        rule_of(plan)
    assert caught.value.kind == "invalid-snapshot-id"


def test_a_long_plan_shows_a_few():
    _, info = example()
    plan = planned(info, 10**6, **BOTH)
    assert "... and " not in repr(plan)
    entries = [SnapshotEntry(snap(n), snap(n - 1) if n else None, n, "") for n in range(20)]
    assert "... and 13 more" in repr(planned(info_of(entries, {"main": snap(19)}), 100))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "something else"},
        {"version": 2},
        {"older_than": "2020-01-01T00:00:00"},
        {"older_than": 5},
        {"delete_expired_tags": "no"},
        {"released": [{"id": "X"}]},
        {"released": {"id": "X"}},
        {"released": [5]},
        {"reparented": [{}]},
        {"branches": {"a": "too short"}},
        {"branches": []},
        {"more": 1},
    ],
)
def test_other_json_is_no_plan(change):
    _, info = example()
    value = json.loads(planned(info, OLD).to_json()) | change
    with pytest.raises(FormatError, match="not an icechunk expiration plan"):
        ExpirationPlan.from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 10**5])
def test_other_text_is_no_plan(text):
    with pytest.raises(FormatError, match="not an icechunk expiration plan"):
        ExpirationPlan.from_json(text)


def test_bounds_name_what_may_go():
    ids, info = example()
    nothing = Rule(OLD, True, True, Bounds(frozenset(), {}, {}))
    assert state_after(info, find_expired(info, nothing)) == info
    moved = Rule(OLD, True, True, Bounds(frozenset(ids.values()), {"old": ids["m1"]}, {}))
    after = state_after(info, find_expired(info, moved))
    assert set(after.branches) == {"main", "old"}
    assert set(after.tags) == {"t"}
