"""What a repository says of itself: metadata, status, feature flags."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

import icechunk
from icechunk import (
    InvalidInputError,
    ReadOnlyError,
    RepoAvailability,
    Repository,
    RepoStatus,
    SessionStateError,
    UpdateType,
)

INITIAL = "1CECHNKREP0F1RSTCMT0"
WHEN = datetime(2024, 2, 3, 4, 5, 6, 7, tzinfo=UTC)


def kinds(repo):
    return [update.kind for update in repo.ops_log()]


@pytest.fixture
def unchanged(storage):
    """Function to call around a failing call: nothing stored may differ afterwards."""

    def contents():
        return {item.key: storage.get(item.key) for item in storage.list()}

    return contents


class TestMetadata:
    def test_a_new_repository_has_none(self, repo):
        assert repo.metadata == {}
        assert repo.get_metadata() == {}

    def test_set_replaces(self, repo, storage):
        given = {"a": 1, "b": {"c": [1, 2.5, None, True, "x"]}, "": "empty name"}
        assert repo.set_metadata(given) is None
        assert repo.metadata == given
        repo.set_metadata({"z": 2})
        assert Repository.open(storage).get_metadata() == {"z": 2}
        assert kinds(repo)[:2] == [UpdateType.MetadataChanged()] * 2

    def test_update_merges_keys_and_returns_the_result(self, repo, storage):
        repo.set_metadata({"a": {"x": 1}, "b": 2})
        merged = repo.update_metadata({"a": {"y": 1}, "c": (1, 2)})
        assert merged == {"a": {"y": 1}, "b": 2, "c": [1, 2]}
        assert Repository.open(storage).metadata == merged
        assert repo.update_metadata({}) == merged
        assert kinds(repo).count(UpdateType.MetadataChanged()) == 3

    def test_what_is_returned_is_a_copy(self, repo):
        repo.set_metadata({"a": [1]})
        repo.metadata["a"].append(2)
        repo.update_metadata({})["a"].append(3)
        assert repo.metadata == {"a": [1]}

    def test_what_was_given_is_copied(self, repo):
        given = {"a": [1]}
        repo.set_metadata(given)
        given["a"].append(2)
        assert repo.metadata == {"a": [1]}

    def test_values_become_plain(self, repo):
        repo.set_metadata({"n": np.int64(3), "f": float("nan"), "t": (1,), "m": 2**64 - 1})
        assert repo.metadata == {"n": 3, "f": None, "t": [1], "m": 2**64 - 1}

    @pytest.mark.parametrize("wrong", [{"x": object()}, [1], "s", {1: 2}, None, {"x": {1: 2}}])
    @pytest.mark.parametrize("method", ["set_metadata", "update_metadata"])
    def test_other_values_are_refused(self, repo, unchanged, method, wrong):
        repo.set_metadata({"a": 1})
        before = unchanged()
        with pytest.raises(TypeError, match="metadata"):
            getattr(repo, method)(wrong)
        assert unchanged() == before

    def test_updates_by_many_lose_nothing(self, storage):
        Repository.create(storage)

        def update(n):
            Repository.open(storage).update_metadata({f"key-{n}": n})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(update, range(12)))
        assert Repository.open(storage).metadata == {f"key-{n}": n for n in range(12)}

    def test_twins(self, repo):
        async def run():
            await repo.set_metadata_async({"a": 1})
            assert await repo.update_metadata_async({"b": 2}) == {"a": 1, "b": 2}
            return await repo.get_metadata_async()

        assert asyncio.run(run()) == {"a": 1, "b": 2}

    def test_commits_keep_them(self, repo):
        repo.set_metadata({"a": [1, {"b": None}]})
        repo.writable_session("main").commit("empty", allow_empty=True)
        assert repo.metadata == {"a": [1, {"b": None}]}


class TestStatus:
    def test_a_new_repository_is_online(self, repo):
        status = repo.status
        (created,) = repo.ops_log()
        assert status.availability is RepoAvailability.online
        assert status.limited_availability_reason is None
        assert abs(status.set_at - created.updated_at) < timedelta(seconds=1)
        assert repo.get_status() == status

    def test_set_and_get(self, repo, storage):
        given = RepoStatus(RepoAvailability.read_only, WHEN, "moving")
        repo.set_status(given)
        assert repo.status == given
        assert Repository.open(storage).status == given
        assert kinds(repo)[0] == UpdateType.RepoStatusChanged(given)

    def test_time_defaults_to_now(self, repo):
        before = datetime.now(UTC)
        repo.set_status(RepoStatus(RepoAvailability.read_only))
        assert before <= repo.status.set_at <= datetime.now(UTC)

    def test_times_of_other_zones_are_the_same_instant(self, repo):
        there = WHEN.astimezone(timezone(timedelta(hours=5)))
        repo.set_status(RepoStatus(RepoAvailability.online, there))
        assert repo.status.set_at == WHEN
        assert repo.status.set_at.tzinfo == UTC

    def test_a_closed_repository_takes_no_change(self, repo, unchanged):
        tip = repo.writable_session("main").commit("first", allow_empty=True)
        repo.create_branch("dev", INITIAL)
        repo.create_tag("t", INITIAL)
        session = repo.writable_session("main")
        repo.set_status(RepoStatus(RepoAvailability.read_only, WHEN, "moving"))
        before = unchanged()
        for call in (
            lambda: repo.set_metadata({}),
            lambda: repo.update_metadata({"a": 1}),
            lambda: repo.set_feature_flag("create_tag", False),
            lambda: repo.save_config(),
            lambda: repo.create_branch("x", INITIAL),
            lambda: repo.create_branch("dev", INITIAL),
            lambda: repo.reset_branch("dev", tip),
            lambda: repo.delete_branch("dev"),
            lambda: repo.delete_branch("absent"),
            lambda: repo.create_tag("x", INITIAL),
            lambda: repo.delete_tag("t"),
            lambda: repo.writable_session("main"),
            lambda: repo.writable_session("absent"),
            lambda: session.commit("refused", allow_empty=True),
        ):
            with pytest.raises(ReadOnlyError, match="repository status is read-only") as caught:
                call()
            assert caught.value.kind == "read-only-repository"
            assert 'reason: Some("moving")' in caught.value.message
        assert unchanged() == before
        assert repo.readonly_session("main").snapshot_id == tip
        assert [info.id for info in repo.ancestry(branch="main")] == [tip, INITIAL]

    def test_a_session_outlives_the_closure(self, repo):
        session = repo.writable_session("main")
        repo.set_status(RepoStatus(RepoAvailability.read_only))
        with pytest.raises(ReadOnlyError, match="repository status is read-only"):
            session.commit("too early", allow_empty=True)
        assert not session.read_only
        assert session.branch == "main"
        repo.set_status(RepoStatus(RepoAvailability.online))
        assert session.commit("in time", allow_empty=True) == repo.lookup_branch("main")

    @pytest.mark.parametrize("wrong", [None, "online", RepoAvailability.read_only, {}])
    def test_other_values_are_refused(self, repo, unchanged, wrong):
        before = unchanged()
        with pytest.raises(TypeError, match="RepoStatus"):
            repo.set_status(wrong)
        assert unchanged() == before

    @pytest.mark.parametrize(
        "arguments",
        [(1,), ("online",), (RepoAvailability.online, datetime(2024, 1, 1)),
         (RepoAvailability.online, 3), (RepoAvailability.online, WHEN, 3)],
    )  # fmt: skip
    def test_statuses_that_make_no_sense(self, arguments):
        with pytest.raises(TypeError):
            RepoStatus(*arguments)

    def test_twins(self, repo):
        async def run():
            await repo.set_status_async(RepoStatus(RepoAvailability.read_only, WHEN))
            return await repo.get_status_async()

        assert asyncio.run(run()) == RepoStatus(RepoAvailability.read_only, WHEN)

    def test_display(self):
        assert repr(RepoStatus(RepoAvailability.read_only, WHEN, "moving")) == (
            "<icechunk.repository.RepoStatus>\n"
            "availability: ReadOnly\n"
            "set_at: datetime.datetime(2024,2,3,4,5,6,7, tzinfo=datetime.timezone.utc)\n"
            "limited_availability_reason: moving\n"
        )


class TestFeatureFlags:
    NAMES = ("move_node", "create_tag", "delete_tag")

    def test_all_are_enabled_by_default(self, repo):
        flags = {flag.name: flag for flag in repo.feature_flags()}
        assert set(flags) == set(self.NAMES)
        assert [flags[name].id for name in self.NAMES] == [3, 4, 5]
        for flag in flags.values():
            assert (flag.default_enabled, flag.setting, flag.enabled) == (True, None, True)
        assert repo.enabled_feature_flags() == repo.feature_flags()
        assert repo.disabled_feature_flags() == []

    @pytest.mark.parametrize("name", NAMES)
    def test_off_on_and_back_to_the_default(self, repo, storage, name):
        number = next(flag.id for flag in repo.feature_flags() if flag.name == name)
        others = [other for other in self.NAMES if other != name]
        for setting in (False, True, False, None, None):
            repo.set_feature_flag(name, setting)
            flags = {flag.name: flag for flag in Repository.open(storage).feature_flags()}
            assert flags[name].setting is setting
            assert flags[name].enabled is (setting is not False)
            assert all(flags[other].setting is None for other in others)
            off = [flag.name for flag in repo.disabled_feature_flags()]
            assert off == ([name] if setting is False else [])
            on = {flag.name for flag in repo.enabled_feature_flags()}
            assert on == set(self.NAMES) - set(off)
            assert kinds(repo)[0] == UpdateType.FeatureFlagChanged(number, setting)

    def test_they_hold(self, repo, unchanged):
        repo.create_tag("t", INITIAL)
        repo.set_feature_flag("create_tag", False)
        repo.set_feature_flag("delete_tag", False)
        before = unchanged()
        for call in (lambda: repo.create_tag("u", INITIAL), lambda: repo.delete_tag("t")):
            with pytest.raises(SessionStateError, match="disabled by a feature flag") as caught:
                call()
            assert caught.value.kind == "feature-flag-disabled"
        assert unchanged() == before
        repo.set_feature_flag("create_tag", None)
        repo.set_feature_flag("delete_tag", True)
        repo.create_tag("u", INITIAL)
        repo.delete_tag("t")
        assert repo.list_tags() == {"u"}

    def test_unknown_names(self, repo, unchanged):
        before = unchanged()
        with pytest.raises(InvalidInputError, match="invalid feature flag name: nope") as caught:
            repo.set_feature_flag("nope", True)
        assert caught.value.kind == "invalid-feature-flag"
        assert unchanged() == before

    @pytest.mark.parametrize("wrong", [1, 0, "on", []])
    def test_other_settings_are_refused(self, repo, unchanged, wrong):
        before = unchanged()
        with pytest.raises(TypeError, match="setting"):
            repo.set_feature_flag("create_tag", wrong)
        assert unchanged() == before

    def test_flags_this_library_does_not_know_are_kept(self, repo, storage):
        from dataclasses import replace

        from icechunk.format.repo_info import decode_repo_info, encode_repo_info

        info = decode_repo_info(storage.get("repo"))
        later = replace(info, enabled_feature_flags=(4, 700), disabled_feature_flags=(4, 800))
        storage.put("repo", encode_repo_info(later))
        flags = {flag.name: flag for flag in repo.feature_flags()}
        assert len(flags) == 3
        assert flags["create_tag"].enabled, "enabled wins over disabled"
        repo.set_feature_flag("move_node", False)
        info = decode_repo_info(storage.get("repo"))
        assert info.enabled_feature_flags == (4, 700)
        assert info.disabled_feature_flags == (3, 4, 800)

    def test_twins(self, repo):
        async def run():
            await repo.set_feature_flag_async("delete_tag", False)
            every = await repo.feature_flags_async()
            on = await repo.enabled_feature_flags_async()
            off = await repo.disabled_feature_flags_async()
            return len(every), len(on), [flag.name for flag in off]

        assert asyncio.run(run()) == (3, 2, ["delete_tag"])

    def test_display(self, repo):
        repo.set_feature_flag("create_tag", False)
        (flag,) = repo.disabled_feature_flags()
        assert (
            repr(flag)
            == str(flag)
            == (
                "<icechunk.config.FeatureFlag>\n"
                "id: 4\n"
                "name: create_tag\n"
                "default_enabled: True\n"
                "setting: False\n"
                "enabled: False\n"
            )
        )
        with pytest.raises(TypeError):
            hash(flag)
        assert pickle.loads(pickle.dumps(flag)) == flag


def test_public_names():
    assert icechunk.FeatureFlag.__name__ == "FeatureFlag"
    assert [int(a) for a in RepoAvailability] == [0, 1]
