"""Opening again, finding out versions, and which configuration is in effect."""

import asyncio

import pytest

import icechunk
from icechunk import (
    ManifestConfig,
    ManifestPreloadConfig,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    Repository,
    RepositoryConfig,
    RepositoryNotFoundError,
    SpecVersion,
    StorageConcurrencySettings,
    StorageSettings,
    VirtualChunkContainer,
    s3_store,
)


def splitting(size):
    rules = {ManifestSplitCondition.AnyArray(): {ManifestSplitDimCondition.Any(): size}}
    return ManifestSplittingConfig.from_dict(rules)


class TestReopen:
    def test_lays_a_configuration_over_the_present_one(self, storage):
        first = RepositoryConfig(inline_chunk_threshold_bytes=5, max_concurrent_requests=9)
        repo = Repository.create(storage, first)
        again = repo.reopen(RepositoryConfig(inline_chunk_threshold_bytes=7))
        assert type(again) is Repository
        assert again.config.inline_chunk_threshold_bytes == 7
        assert again.config.max_concurrent_requests == 9
        assert repo.config.inline_chunk_threshold_bytes == 5
        assert again.reopen().config == again.config
        assert again.storage is storage

    def test_is_the_same_repository(self, repo):
        again = repo.reopen()
        tip = again.writable_session("main").commit("by the other", allow_empty=True)
        assert repo.lookup_branch("main") == tip

    def test_takes_what_it_was_given_along(self, repo):
        config = RepositoryConfig(max_concurrent_requests=3)
        again = repo.reopen(config)
        config.max_concurrent_requests = 4
        assert again.config.max_concurrent_requests == 3
        again.config.max_concurrent_requests = 5
        assert again.config.max_concurrent_requests == 3

    def test_keeps_to_its_own_stored_configuration(self, storage):
        repo = Repository.create(storage)
        Repository.open(storage, RepositoryConfig(max_concurrent_requests=3)).save_config()
        assert repo.reopen().config.max_concurrent_requests is None
        assert Repository.open(storage).config.max_concurrent_requests == 3

    def test_default_commit_metadata_stay_behind(self, repo):
        repo.set_default_commit_metadata({"user": "me"})
        assert repo.reopen().default_commit_metadata() == {}

    def test_containers_that_were_cleared_stay_so(self, storage):
        config = RepositoryConfig.default()
        config.set_virtual_chunk_container(
            VirtualChunkContainer("s3://bucket/", s3_store(region="us-east-1"))
        )
        repo = Repository.create(storage, config)
        assert set(repo.reopen().config.virtual_chunk_containers) == {"s3://bucket/"}
        cleared = repo.config
        cleared.clear_virtual_chunk_containers()
        again = repo.reopen(cleared)
        assert again.config.virtual_chunk_containers == {}
        assert again.reopen().config.virtual_chunk_containers == {}
        again.save_config()
        assert not Repository.open(storage).config.virtual_chunk_containers

    def test_a_repository_that_is_gone(self, repo, storage):
        storage.delete([item.key for item in storage.list()])
        with pytest.raises(RepositoryNotFoundError) as caught:
            repo.reopen()
        assert caught.value.kind == "repository-not-found"

    @pytest.mark.parametrize("wrong", [3, {}, StorageSettings()])
    def test_other_configurations_are_refused(self, repo, wrong):
        with pytest.raises(TypeError):
            repo.reopen(wrong)

    def test_nothing_is_authorized(self, repo):
        assert repo.authorized_virtual_container_prefixes == set()
        again = repo.reopen(authorize_virtual_chunk_access={})
        assert again.authorized_virtual_container_prefixes == set()

    def test_twin(self, repo):
        again = asyncio.run(repo.reopen_async(RepositoryConfig(max_concurrent_requests=3)))
        assert again.config.max_concurrent_requests == 3


class TestPrecedence:
    """Defaults, then what is stored, then what is passed."""

    @pytest.fixture
    def stored(self, storage):
        config = RepositoryConfig(
            inline_chunk_threshold_bytes=5,
            compression=icechunk.CompressionConfig(level=2),
            caching=icechunk.CachingConfig(num_chunk_refs=10, num_bytes_chunks=20),
            storage=StorageSettings(
                concurrency=StorageConcurrencySettings(max_concurrent_requests_for_object=3),
                storage_class="A",
            ),
            manifest=ManifestConfig(
                preload=ManifestPreloadConfig(max_total_refs=1, max_arrays_to_scan=2),
                splitting=splitting(10),
                max_concurrent_manifest_fetches_during_commit=4,
            ),
        )
        config.set_virtual_chunk_container(
            VirtualChunkContainer("s3://one/", s3_store(region="us-east-1"))
        )
        Repository.create(storage, config)
        return storage

    def test_scalars(self, stored):
        assert Repository.open(stored).config.inline_chunk_threshold_bytes == 5
        passed = RepositoryConfig(inline_chunk_threshold_bytes=0)
        assert Repository.open(stored, passed).config.inline_chunk_threshold_bytes == 0
        assert Repository.open(stored, passed).config.max_concurrent_requests is None

    def test_field_by_field(self, stored):
        passed = RepositoryConfig(
            caching=icechunk.CachingConfig(num_chunk_refs=11),
            storage=StorageSettings(
                concurrency=StorageConcurrencySettings(ideal_concurrent_request_size=100)
            ),
            manifest=ManifestConfig(max_concurrent_manifest_fetches_during_commit=5),
        )
        config = Repository.open(stored, passed).config
        assert config.caching.num_chunk_refs == 11
        assert config.caching.num_bytes_chunks == 20
        assert config.compression.level == 2
        assert config.storage.concurrency.max_concurrent_requests_for_object == 3
        assert config.storage.concurrency.ideal_concurrent_request_size == 100
        assert config.storage.storage_class == "A"
        assert config.manifest.max_concurrent_manifest_fetches_during_commit == 5
        assert config.manifest.splitting == splitting(10)
        assert config.manifest.preload.max_total_refs == 1

    def test_wholesale(self, stored):
        passed = RepositoryConfig(
            manifest=ManifestConfig(
                preload=ManifestPreloadConfig(max_total_refs=7), splitting=splitting(3)
            )
        )
        passed.set_virtual_chunk_container(
            VirtualChunkContainer("s3://two/", s3_store(region="us-east-1"))
        )
        config = Repository.open(stored, passed).config
        assert config.manifest.preload == ManifestPreloadConfig(max_total_refs=7)
        assert config.manifest.splitting == splitting(3)
        assert set(config.virtual_chunk_containers) == {"s3://two/"}

    def test_storage_settings_are_always_filled_in(self, storage):
        repo = Repository.create(storage)
        assert repo.config.storage == storage.default_settings()
        assert repo.writable_session("main").config == repo.config


class TestVersions:
    def test_of_this_library(self):
        assert icechunk.spec_version() is SpecVersion.v2
        assert str(icechunk.spec_version()) == "SpecVersion.v2 (current)"
        assert icechunk.supported_spec_versions()[0] == icechunk.spec_version()
        versions = icechunk.supported_spec_versions()
        assert versions == sorted(versions, reverse=True)

    def test_of_a_storage(self, storage):
        assert Repository.fetch_spec_version(storage) is None
        assert list(storage.list()) == []
        Repository.create(storage)
        assert Repository.fetch_spec_version(storage) is SpecVersion.v2
        assert Repository.fetch_spec_version(storage, StorageSettings()) is SpecVersion.v2
        assert asyncio.run(Repository.fetch_spec_version_async(storage)) is SpecVersion.v2

    def test_version_1_is_recognised(self, storage):
        storage.put("refs/branch.main/ref.json", b'{"snapshot":"1CECHNKREP0F1RSTCMT0"}')
        assert Repository.fetch_spec_version(storage) is SpecVersion.v1
        storage.put("repo", b"anything")
        assert Repository.fetch_spec_version(storage) is SpecVersion.v2

    def test_version_of_a_missing_directory(self, tmp_path):
        storage = icechunk.local_filesystem_storage(str(tmp_path / "absent"))
        assert Repository.fetch_spec_version(storage) is None
        assert not (tmp_path / "absent").exists()

    @pytest.mark.parametrize("wrong", [0, 3, 255])
    def test_unknown_versions(self, storage, wrong):
        with pytest.raises(ValueError, match=f"Unsupported version {wrong}"):
            Repository.create(storage, spec_version=wrong)
        assert list(storage.list()) == []

    @pytest.mark.parametrize("wrong", [-1, 256, "2", 2.0, True])
    def test_no_versions(self, storage, wrong):
        with pytest.raises(ValueError, match="Couldn't parse a valid version"):
            Repository.create(storage, spec_version=wrong)
        assert list(storage.list()) == []
