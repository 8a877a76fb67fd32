"""What users import and call: names, signatures and docstrings of the public interface.

Signatures are spelled out by hand, as users of the reference implementation know them. A function
of ours may take more (keyword-only), and what it lacks is listed here by name, never by accident.
"""

import importlib
import inspect
import re
from enum import Enum

import pytest

import icechunk

NAMES = {
    "AlreadyExistsError",
    "AncestryGraph",
    "AnyAzureCredential",
    "AnyAzureStaticCredential",
    "AnyCredential",
    "AnyGcsCredential",
    "AnyGcsStaticCredential",
    "AnyObjectStoreConfig",
    "AnyS3Credential",
    "Attribution",
    "AzureCredentials",
    "AzureRefreshableCredential",
    "AzureStaticCredentials",
    "BasicConflictSolver",
    "CachingConfig",
    "ChecksumAlgorithm",
    "ChunkType",
    "CompressionAlgorithm",
    "CompressionConfig",
    "Conflict",
    "ConflictDetector",
    "ConflictError",
    "ConflictSolver",
    "ConflictType",
    "Credentials",
    "Diff",
    "ErrorKind",
    "ExpirationPlan",
    "FeatureFlag",
    "ForkSession",
    "FormatError",
    "GCSummary",
    "GarbagePlan",
    "GcsBearerCredential",
    "GcsCredentials",
    "GcsStaticCredentials",
    "IcechunkError",
    "IcechunkStore",
    "InternalError",
    "InvalidInputError",
    "ManifestConfig",
    "ManifestFileInfo",
    "ManifestPreloadCondition",
    "ManifestPreloadConfig",
    "ManifestSplitCondition",
    "ManifestSplitDimCondition",
    "ManifestSplittingConfig",
    "ManifestVirtualChunkLocationCompressionConfig",
    "NodeNotFoundError",
    "NotFoundError",
    "ObjectStoreConfig",
    "ReadOnlyError",
    "RebaseFailedError",
    "RefNotFoundError",
    "RepoAvailability",
    "RepoStatus",
    "Repository",
    "RepositoryConfig",
    "RepositoryNotFoundError",
    "S3Credentials",
    "S3Options",
    "S3StaticCredentials",
    "Session",
    "SessionMode",
    "SessionStateError",
    "SnapshotInfo",
    "SnapshotNotFoundError",
    "SpecVersion",
    "Storage",
    "StorageConcurrencySettings",
    "StorageError",
    "StorageRetriesSettings",
    "StorageSettings",
    "StorageTimeoutSettings",
    "Update",
    "UpdateType",
    "UpgradePlan",
    "VersionSelection",
    "VirtualChunkContainer",
    "VirtualChunkSpec",
    "__version__",
    "azure_anonymous_credentials",
    "azure_credentials",
    "azure_from_env_credentials",
    "azure_refreshable_credentials",
    "azure_static_credentials",
    "azure_storage",
    "containers_credentials",
    "gcs_credentials",
    "gcs_from_env_credentials",
    "gcs_refreshable_credentials",
    "gcs_static_credentials",
    "gcs_storage",
    "gcs_store",
    "hf_storage",
    "http_storage",
    "http_store",
    "in_memory_storage",
    "initialize_logs",
    "local_filesystem_storage",
    "local_filesystem_store",
    "print_debug_info",
    "r2_storage",
    "redirect_storage",
    "s3_anonymous_credentials",
    "s3_credentials",
    "s3_from_env_credentials",
    "s3_refreshable_credentials",
    "s3_static_credentials",
    "s3_storage",
    "s3_store",
    "set_logs_filter",
    "shutdown_telemetry",
    "spec_version",
    "supported_spec_versions",
    "tigris_storage",
    "upgrade_icechunk_repository",
    "user_agent",
}

MODULES = [
    "config",
    "conflicts",
    "credentials",
    "dask",
    "distributed",
    "ops",
    "repository",
    "session",
    "snapshots",
    "stats",
    "storage",
    "store",
    "testing",
    "types",
    "virtual",
    "xarray",
]

SELECTORS = "*, branch=None, tag=None, snapshot_id=None"
S3_STORAGE = """
    *, bucket, prefix, region=None, endpoint_url=None, allow_http=False, access_key_id=None,
    secret_access_key=None, session_token=None, expires_after=None, anonymous=None, from_env=None,
    get_credentials=None, scatter_initial_credentials=False, force_path_style=False,
    network_stream_timeout_seconds=60, requester_pays=False, checksum_algorithm=None,
    legacy_rooted_keys=None, read_headers=None, write_headers=None, headers=None
"""

S3_CREDENTIALS = """
    *, access_key_id=None, secret_access_key=None, session_token=None, expires_after=None,
    anonymous=None, from_env=None, get_credentials=None, scatter_initial_credentials=False
"""
REFRESHABLE = "get_credentials, scatter_initial_credentials=False"

HEADERS = "read_headers=None, write_headers=None, headers=None"
NEW_S3 = f"""
    config, bucket, prefix, credentials=None, legacy_rooted_keys=None, *, {HEADERS}
"""

STATS = """
    self, *, max_snapshots_in_memory=50, max_compressed_manifest_mem_bytes=536870912,
    max_decoded_manifest_mem_bytes=4294967296, max_concurrent_manifest_fetches=500
"""

GARBAGE = """self, delete_object_older_than, *, dry_run=False, max_snapshots_in_memory=50,
    max_compressed_manifest_mem_bytes=536870912, max_decoded_manifest_mem_bytes=4294967296,
    max_concurrent_manifest_fetches=500, max_concurrent_deletes=10,
    max_consecutive_delete_failures=50, max_concurrent_listings=None"""
UPGRADE = "delete_unused_v1_files=True, prefetch_concurrency=None"
EXPIRATION = "self, older_than, *, delete_expired_branches=False, delete_expired_tags=False"

# Parameters in order, with defaults; what follows a * is given by name.
SIGNATURES = {
    "Repository.create": """
        storage, config=None, authorize_virtual_chunk_access=None, spec_version=None,
        check_clean_root=True, attribution=None""",
    "Repository.open": """
        storage, config=None, authorize_virtual_chunk_access=None, attribution=None""",
    "Repository.open_or_create": """
        storage, config=None, authorize_virtual_chunk_access=None, create_version=None,
        check_clean_root=True, attribution=None""",
    "Repository.exists": "storage, storage_settings=None",
    "Repository.check_storage": "storage, storage_settings=None",
    "Repository.fetch_spec_version": "storage, storage_settings=None",
    "Repository.fetch_config": "storage",
    "Repository.reopen": "self, config=None, authorize_virtual_chunk_access=None",
    "Repository.save_config": "self",
    "Repository.get_metadata": "self",
    "Repository.set_metadata": "self, metadata",
    "Repository.update_metadata": "self, metadata",
    "Repository.get_status": "self",
    "Repository.set_status": "self, status",
    "Repository.feature_flags": "self",
    "Repository.enabled_feature_flags": "self",
    "Repository.disabled_feature_flags": "self",
    "Repository.set_feature_flag": "self, name, setting",
    "Repository.set_default_commit_metadata": "self, metadata",
    "Repository.default_commit_metadata": "self",
    "Repository.ancestry": f"self, {SELECTORS}",
    "Repository.ancestry_graph": f"self, {SELECTORS}, plain=False",
    "Repository.lookup_snapshot": "self, snapshot_id",
    "Repository.diff": """
        self, *, from_branch=None, from_tag=None, from_snapshot_id=None, to_branch=None,
        to_tag=None, to_snapshot_id=None""",
    "Repository.list_manifest_files": "self, snapshot_id",
    "Repository.ops_log": "self",
    "Repository.expire_snapshots": EXPIRATION,
    "Repository.expire_snapshots_async": EXPIRATION,
    "Repository.plan_expiration": EXPIRATION,
    "Repository.run_expiration": "self, plan",
    "Repository.plan_upgrade": f"self, *, {UPGRADE}",
    "upgrade_icechunk_repository": f"repo, *, dry_run, {UPGRADE}",
    "Repository.garbage_collect": GARBAGE,
    "Repository.garbage_collect_async": GARBAGE,
    "Repository.chunk_storage_stats": STATS,
    "Repository.chunk_storage_stats_async": STATS,
    "Repository.total_chunks_storage": STATS,
    "Repository.total_chunks_storage_async": STATS,
    "Repository.storage_statistics": STATS.replace("*,", "*, by='array',"),
    "Repository.storage_added_by": STATS.replace("*,", "snapshot_id, *,"),
    "Repository.storage_freed_by_expiring": EXPIRATION + STATS.split("*")[1],
    "Repository.inspect_snapshot": "self, snapshot_id",
    "Repository.inspect_snapshot_async": "self, snapshot_id",
    "Repository.inspect_repo_info": "self",
    "Repository.inspect_repo_info_async": "self",
    "Repository.inspect_manifest": "self, manifest_id",
    "Repository.inspect_manifest_async": "self, manifest_id",
    "Repository.inspect_transaction_log": "self, snapshot_id",
    "Repository.inspect_transaction_log_async": "self, snapshot_id",
    "Repository.create_branch": "self, branch, snapshot_id",
    "Repository.list_branches": "self",
    "Repository.lookup_branch": "self, branch",
    "Repository.reset_branch": "self, branch, snapshot_id, *, from_snapshot_id=None",
    "Repository.delete_branch": "self, branch",
    "Repository.create_tag": "self, tag, snapshot_id",
    "Repository.list_tags": "self",
    "Repository.lookup_tag": "self, tag",
    "Repository.delete_tag": "self, tag",
    "Repository.readonly_session": """
        self, branch=None, *, tag=None, snapshot_id=None, as_of=None""",
    "Repository.writable_session": "self, branch",
    "Repository.rearrange_session": "self, branch",
    "Repository.transaction": """
        self, branch, *, message, metadata=None, rebase_with=None, rebase_tries=1000""",
    "Repository.rewrite_manifests": """
        self, message, *, branch, metadata=None, commit_method='new_commit'""",
    "Session.status": "self",
    "Session.discard_changes": "self",
    "Session.move": "self, from_path, to_path",
    "Session.move_async": "self, from_path, to_path",
    "Session.shift_array": "self, array_path, chunk_offset",
    "Session.reindex_array": "self, array_path, forward, backward=None",
    "Session.chunk_type": "self, array_path, chunk_coordinates",
    "Session.chunk_type_async": "self, array_path, chunk_coordinates",
    "Session.chunk_coordinates": "self, array_path, batch_size=1000",
    "Session.get_node_id": "self, path",
    "Session.get_node_id_async": "self, path",
    "Session.all_virtual_chunk_locations": "self",
    "Session.all_virtual_chunk_locations_async": "self",
    "Session.commit": """
        self, message, metadata=None, *, rebase_with=None, rebase_tries=1000, allow_empty=False""",
    "Session.amend": "self, message, *, metadata=None, allow_empty=False",
    "Session.flush": "self, message, *, metadata=None",
    "Session.rebase": "self, solver",
    "Session.fork": "self",
    "Session.merge": "self, *others",
    "IcechunkStore.get": "self, key, prototype, byte_range=None",
    "IcechunkStore.get_partial_values": "self, prototype, key_ranges",
    "IcechunkStore.exists": "self, key",
    "IcechunkStore.set": "self, key, value",
    "IcechunkStore.set_if_not_exists": "self, key, value",
    "IcechunkStore.set_virtual_ref": """
        self, key, location, *, offset, length, checksum=None, validate_container=True""",
    "IcechunkStore.set_virtual_refs": "self, array_path, chunks, *, validate_containers=True",
    "IcechunkStore.set_virtual_refs_arr": """
        self, array_path, chunk_grid_shape, locations, offsets, lengths, *,
        validate_containers=True, arr_offset=None, checksum=None""",
    "IcechunkStore.delete": "self, key",
    "IcechunkStore.delete_dir": "self, prefix",
    "IcechunkStore.clear": "self",
    "IcechunkStore.sync_clear": "self",
    "IcechunkStore.list": "self",
    "IcechunkStore.list_prefix": "self, prefix",
    "IcechunkStore.list_dir": "self, prefix",
    "IcechunkStore.is_empty": "self, prefix",
    "IcechunkStore.array_chunk_iterator": "self, array_path, batch_size=100_000",
    "IcechunkStore.getsize": "self, key",
    "IcechunkStore.getsize_prefix": "self, prefix",
    "IcechunkStore.with_read_only": "self, read_only=False",
    "Diff.is_empty": "self",
    "initialize_logs": "",
    "set_logs_filter": "log_filter_directive",
    "shutdown_telemetry": "",
    "user_agent": "",
    "print_debug_info": "",
    "in_memory_storage": "",
    "local_filesystem_storage": "path",
    "s3_storage": S3_STORAGE,
    "storage.s3_object_store_storage": """
        *, bucket, prefix, region=None, endpoint_url=None, allow_http=False, access_key_id=None,
        secret_access_key=None, session_token=None, expires_after=None, anonymous=None,
        from_env=None, force_path_style=False, read_headers=None, write_headers=None,
        headers=None""",
    "r2_storage": """
        *, bucket=None, prefix=None, account_id=None, endpoint_url=None, region=None,
        allow_http=False, access_key_id=None, secret_access_key=None, session_token=None,
        expires_after=None, anonymous=None, from_env=None, get_credentials=None,
        scatter_initial_credentials=False, network_stream_timeout_seconds=60,
        checksum_algorithm=None, legacy_rooted_keys=None, read_headers=None, write_headers=None,
        headers=None""",
    "tigris_storage": """
        *, bucket, prefix, region=None, endpoint_url=None, use_weak_consistency=False,
        allow_http=False, access_key_id=None, secret_access_key=None, session_token=None,
        expires_after=None, anonymous=None, from_env=None, get_credentials=None,
        scatter_initial_credentials=False, network_stream_timeout_seconds=60,
        checksum_algorithm=None, legacy_rooted_keys=None, read_headers=None, write_headers=None,
        headers=None""",
    "hf_storage": """
        *, bucket, prefix, namespace, access_key_id=None, secret_access_key=None,
        session_token=None, expires_after=None, from_env=None, get_credentials=None,
        scatter_initial_credentials=False, network_stream_timeout_seconds=60,
        legacy_rooted_keys=None, read_headers=None, write_headers=None, headers=None""",
    "gcs_storage": """
        *, bucket, prefix, service_account_file=None, service_account_key=None,
        application_credentials=None, bearer_token=None, anonymous=None, from_env=None,
        config=None, get_credentials=None, scatter_initial_credentials=False, read_headers=None,
        write_headers=None, headers=None""",
    "azure_storage": """
        *, account, container, prefix, access_key=None, sas_token=None, bearer_token=None,
        from_env=None, anonymous=None, config=None""",
    "http_storage": "base_url, opts=None, headers=None",
    "redirect_storage": "base_url",
    "Attribution": "*, client=None, workload=None, principal=None",
    "Storage.new_s3": NEW_S3,
    "Storage.new_s3_object_store": f"config, bucket, prefix, credentials=None, *, {HEADERS}",
    "Storage.new_r2": f"""
        config, bucket=None, prefix=None, account_id=None, credentials=None,
        legacy_rooted_keys=None, *, {HEADERS}""",
    "Storage.new_tigris": f"""
        config, bucket, prefix, use_weak_consistency, credentials=None, legacy_rooted_keys=None,
        *, {HEADERS}""",
    "Storage.new_hf": f"""
        config, bucket, prefix, namespace, credentials=None, legacy_rooted_keys=None,
        *, {HEADERS}""",
    "Storage.new_gcs": f"bucket, prefix, credentials=None, *, config=None, {HEADERS}",
    "Storage.new_azure_blob": "account, container, prefix, credentials=None, *, config=None",
    "Storage.new_http": "base_url, config=None, headers=None",
    "Storage.new_redirect": "base_url",
    "S3StaticCredentials": """
        access_key_id, secret_access_key, session_token=None, expires_after=None""",
    "GcsBearerCredential": "bearer, *, expires_after=None",
    "s3_credentials": S3_CREDENTIALS,
    "s3_static_credentials": """
        *, access_key_id, secret_access_key, session_token=None, expires_after=None""",
    "s3_refreshable_credentials": REFRESHABLE,
    "s3_anonymous_credentials": "",
    "s3_from_env_credentials": "",
    "gcs_credentials": """
        *, service_account_file=None, service_account_key=None, application_credentials=None,
        bearer_token=None, from_env=None, anonymous=None, get_credentials=None,
        scatter_initial_credentials=False""",
    "gcs_static_credentials": """
        *, service_account_file=None, service_account_key=None, application_credentials=None,
        bearer_token=None""",
    "gcs_refreshable_credentials": REFRESHABLE,
    "gcs_from_env_credentials": "",
    "credentials.gcs_anonymous_credentials": "",
    "azure_credentials": """
        *, access_key=None, sas_token=None, bearer_token=None, from_env=None, anonymous=None,
        get_credentials=None, scatter_initial_credentials=False""",
    "azure_static_credentials": "*, access_key=None, sas_token=None, bearer_token=None",
    "azure_refreshable_credentials": REFRESHABLE,
    "azure_anonymous_credentials": "",
    "azure_from_env_credentials": "",
    "containers_credentials": "m",
    "s3_store": """
        region=None, endpoint_url=None, allow_http=False, anonymous=False, s3_compatible=False,
        force_path_style=False, network_stream_timeout_seconds=60, requester_pays=False,
        checksum_algorithm=None""",
    "gcs_store": "opts=None",
    "http_store": "opts=None, headers=None",
    "local_filesystem_store": "path",
    "VirtualChunkSpec": """
        index, location, offset, length, etag_checksum=None, last_updated_at_checksum=None""",
    "VirtualChunkContainer": "url_prefix, store, name=None",
    "RepositoryConfig": """
        inline_chunk_threshold_bytes=None, get_partial_values_concurrency=None, compression=None,
        max_concurrent_requests=None, caching=None, storage=None, virtual_chunk_containers=None,
        manifest=None, repo_update_retries=None, num_updates_per_repo_info_file=None,
        max_concurrent_decodes=None""",
    "ManifestConfig": """
        preload=None, splitting=None, virtual_chunk_location_compression=None,
        max_concurrent_manifest_fetches_during_commit=None""",
    "ManifestPreloadConfig": "max_total_refs=None, preload_if=None, max_arrays_to_scan=None",
    "ManifestSplittingConfig": "split_sizes=None",
    "CachingConfig": """
        num_snapshot_nodes=None, num_chunk_refs=None, num_transaction_changes=None,
        num_bytes_attributes=None, num_bytes_chunks=None""",
    "CompressionConfig": "algorithm=None, level=None",
    "S3Options": """
        region=None, endpoint_url=None, allow_http=False, anonymous=False, force_path_style=False,
        network_stream_timeout_seconds=None, requester_pays=False, checksum_algorithm=None""",
    "StorageSettings": """
        concurrency=None, retries=None, unsafe_use_conditional_create=None,
        unsafe_use_conditional_update=None, unsafe_use_metadata=None, storage_class=None,
        metadata_storage_class=None, chunks_storage_class=None,
        minimum_size_for_multipart_upload=None, timeouts=None""",
    "StorageConcurrencySettings": """
        max_concurrent_requests_for_object=None, ideal_concurrent_request_size=None""",
    "StorageRetriesSettings": "max_tries=None, initial_backoff_ms=None, max_backoff_ms=None",
    "StorageTimeoutSettings": """
        connect_timeout_ms=None, read_timeout_ms=None, operation_timeout_ms=None,
        operation_attempt_timeout_ms=None""",
    "RepoStatus": "availability, set_at=None, limited_availability_reason=None",
    "IcechunkError": "message, kind='unknown'",
    "ConflictError": "expected_parent=None, actual_parent=None, message=None, kind=None",
    "RebaseFailedError": "snapshot, conflicts",
    "dask.store_dask": "*, sources, targets, regions=None, split_every=None, **store_kwargs",
    "dask.session_merge_reduction": "arrays, *, split_every, **store_kwargs",
    "distributed.extract_session": "zarray, axis=None, keepdims=None",
    "distributed.merge_sessions": "*sessions",
    "xarray.to_icechunk": """
        obj, session, *, group=None, mode=None, safe_chunks=True, align_chunks=False,
        append_dim=None, region=None, encoding=None, chunkmanager_store_kwargs=None,
        split_every=None""",
}

# Why a callable has no complete section of parameters.
NEEDS_NO_PARAMETERS_SECTION = {
    "Conflict": "a result",
    "ConflictError": "message and kind are those of IcechunkError",
    "Diff": "a result",
    "FeatureFlag": "a result",
    "GCSummary": "a result",
    "ForkSession": "made by Session.fork",
    "IcechunkStore.get": "Zarr's interface",
    "IcechunkStore.get_sync": "Zarr's interface",
    "ManifestFileInfo": "a result",
    "Repository": "made by Repository.create and open",
    "Repository.ancestry": "the summary names the three",
    "Repository.open_or_create": "those of open and create",
    "Session": "made by Repository",
    "Session.writable": "called by Repository",
    "SnapshotInfo": "a result",
    "Storage": "abstract",
    "Storage.get_range": "the summary names them",
    "Storage.get_range_async": "those of get_range",
    "Storage.put_if": "the text names them",
    "Storage.refuses": "those of put_if",
    "Update": "a result",
    "s3_store": "those of S3Options",
}
LONGEST_SELF_EXPLAINING = 2
"""So many parameters may go without a section, where the summary says what they are."""


def resolve(name):
    first, _, rest = name.partition(".")
    if first in MODULES and rest:
        return getattr(importlib.import_module(f"icechunk.{first}"), rest)
    thing = icechunk
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def parameters_of(thing):
    return list(inspect.signature(thing).parameters.values())


def expected_parameters(text):
    namespace = {}
    exec(f"def expected({text}): pass", namespace)
    return parameters_of(namespace["expected"])


def public_callables():
    """Functions of the package, methods of its classes, and constructors."""
    for name in sorted(icechunk.__all__):
        thing = getattr(icechunk, name)
        if not callable(thing):
            continue
        yield name, thing
        if inspect.isclass(thing):
            for attribute, member in vars(thing).items():
                plain = (
                    member.__func__ if isinstance(member, classmethod | staticmethod) else member
                )
                if not attribute.startswith("_") and inspect.isfunction(plain):
                    yield f"{name}.{attribute}", plain
    for name in SIGNATURES:
        if name.partition(".")[0] in MODULES:
            yield name, resolve(name)


def test_names_are_pinned():
    assert set(icechunk.__all__) == NAMES
    assert sorted(icechunk.__all__) == list(icechunk.__all__), "keep __all__ sorted"


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_every_name_exists_and_says_what_it_is(name):
    thing = getattr(icechunk, name)
    if name.startswith("Any"):  # type aliases: nothing to hang a docstring on
        return
    docstring = inspect.getdoc(thing)
    assert docstring, name
    assert docstring.splitlines()[0].endswith("."), docstring.splitlines()[0]


@pytest.mark.parametrize("name", MODULES)
def test_modules_users_import_by_name(name):
    module = importlib.import_module(f"icechunk.{name}")
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


@pytest.mark.parametrize("name", SIGNATURES)
def test_calls_written_for_the_reference_are_accepted(name):
    ours = parameters_of(resolve(name))
    theirs = expected_parameters(SIGNATURES[name])
    positional = [
        parameter.name for parameter in ours if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    expected = [
        parameter.name for parameter in theirs if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    # classmethods are looked up bound: neither side has a self then
    assert positional[: len(expected)] == expected
    named = {parameter.name: parameter for parameter in ours}
    for parameter in theirs:
        mine = named[parameter.name]
        assert mine.kind is parameter.kind, parameter.name
        if parameter.default is not parameter.empty:
            assert mine.default == parameter.default, parameter.name
    known = {parameter.name for parameter in theirs}
    for parameter in ours:
        if parameter.name not in known:
            assert parameter.default is not parameter.empty, f"{parameter.name} must be optional"
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter.name


CALLABLES = dict(public_callables())


@pytest.mark.parametrize("name", CALLABLES)
def test_parameters_are_documented(name):
    thing = CALLABLES[name]
    docstring = inspect.getdoc(thing) or ""
    assert docstring, name
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return
    if docstring.startswith("Do as `"):  # second names and twins: described where they point to
        return
    given = [parameter.name for parameter in parameters_of(thing)]
    names = [parameter for parameter in given if parameter not in {"self", "cls"}]
    documented = documented_parameters(docstring)
    is_complete = sorted(documented) == sorted(names)
    is_plain = not documented and len(names) <= LONGEST_SELF_EXPLAINING
    if name in NEEDS_NO_PARAMETERS_SECTION:
        assert set(documented) <= set(names)
        assert not is_complete or not names, "documented now: drop the exception"
    else:
        assert is_complete or is_plain, f"{name} has {names} and documents {documented}"


def documented_parameters(docstring):
    """Names in the numpydoc section of parameters."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", docstring, re.M | re.S)
    if found is None:
        return []
    heads = re.findall(r"^(\S[^:\n]*)", found[1], re.MULTILINE)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def test_exceptions_are_about_what_exists():
    assert set(NEEDS_NO_PARAMETERS_SECTION) <= set(CALLABLES)
