"""The functions users make storages of S3 and of stores that speak its protocol with.

Arguments are checked, then a constructor is called. One that would change behaviour and cannot be
honoured is refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from icechunk.config import ChecksumAlgorithm, S3Options
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import arguments
from icechunk.storage.base import Storage
from icechunk.storage.credentials import S3Credentials, S3StaticCredentials, s3_credentials
from icechunk.storage.sending import Sending

__all__ = [
    "hf_storage",
    "new_hf",
    "new_r2",
    "new_s3",
    "new_s3_object_store",
    "new_tigris",
    "r2_storage",
    "s3_object_store_storage",
    "s3_storage",
    "tigris_storage",
]

_TIGRIS = re.compile(r"(?:^|\.)(?:tigris\.dev|t3\.storage\.dev)$")
_TIGRIS_ENDPOINT = "https://t3.storage.dev"
_STALL = 60  # seconds

Headers = Mapping[str, str] | None


def s3_storage(
    *,
    bucket: str,
    prefix: str | None,
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    force_path_style: bool = False,
    network_stream_timeout_seconds: int = 60,
    requester_pays: bool = False,
    checksum_algorithm: ChecksumAlgorithm | str | None = None,
    legacy_rooted_keys: bool | None = None,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of the objects below a prefix of an S3 bucket, or of a compatible store.

    Parameters
    ----------
    bucket
        Name of the bucket.
    prefix
        Where in the bucket the repository lives. None or empty is the bucket's root, where
        repositories can be opened but not created.
    region
        Region of the bucket. Default: ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else us-east-1.
    endpoint_url
        Server to use instead of Amazon's. Default: ``AWS_ENDPOINT_URL_S3`` or
        ``AWS_ENDPOINT_URL``.
    allow_http
        Permit connections without TLS.
    access_key_id, secret_access_key, session_token, expires_after
        A key to sign requests with; the last two for temporary ones.
    anonymous
        Send unsigned requests.
    from_env
        Find credentials in ``AWS_*`` environment variables or the services that cloud machines
        offer. This is also what happens without any credentials. Profiles in ``~/.aws`` are not
        read.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `icechunk.s3_refreshable_credentials`.
    force_path_style
        Name the bucket in the path of URLs rather than in the host name, which many compatible
        stores need. Always done for addresses and ``localhost``.
    network_stream_timeout_seconds
        Give up a download that makes no progress for so long; 0 waits for ever.
    requester_pays
        Agree to pay for requests to somebody else's bucket.
    checksum_algorithm
        Checksum to send with uploads: ``Sha256`` or ``Crc64Nvme``. The client has no others.
    legacy_rooted_keys
        True, the key layout of some old repositories, is not supported: the client cannot name
        such keys. So it is not detected either.
    read_headers, write_headers, headers
        HTTP headers to add to reading requests, to writing ones, and to all; where both are
        given the more specific one wins. They are not taken along to other hosts: redirects
        there fail, but for credentials from the environment, and proxies.
    """
    return _s3(
        "s3_storage",
        bucket=bucket,
        prefix=prefix,
        region=region,
        endpoint_url=_not_tigris(endpoint_url),
        allow_http=allow_http,
        credentials=s3_credentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            expires_after=expires_after,
            anonymous=anonymous,
            from_env=from_env,
            get_credentials=get_credentials,
            scatter_initial_credentials=scatter_initial_credentials,
        ),
        force_path_style=force_path_style,
        stall=network_stream_timeout_seconds,
        requester_pays=requester_pays,
        checksum=checksum_algorithm,
        legacy_rooted_keys=legacy_rooted_keys,
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
    )


def s3_object_store_storage(
    *,
    bucket: str,
    prefix: str | None,
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    force_path_style: bool = False,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage as `s3_storage` does, which uses the same client here.

    Parameters
    ----------
    bucket, prefix, region, endpoint_url, allow_http, force_path_style
        Where it is; see `s3_storage`.
    access_key_id, secret_access_key, session_token, expires_after, anonymous, from_env
        Credentials; see `s3_storage`.
    read_headers, write_headers, headers
        HTTP headers to add; see `s3_storage`.
    """
    return _s3(
        "s3_object_store_storage",
        bucket=bucket,
        prefix=prefix,
        region=region,
        endpoint_url=_not_tigris(endpoint_url),
        allow_http=allow_http,
        credentials=s3_credentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            expires_after=expires_after,
            anonymous=anonymous,
            from_env=from_env,
        ),
        force_path_style=force_path_style,
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
        shown_as="S3",
    )


def r2_storage(
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    account_id: str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    network_stream_timeout_seconds: int = 60,
    checksum_algorithm: ChecksumAlgorithm | str | None = None,
    legacy_rooted_keys: bool | None = None,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Cloudflare R2 bucket.

    Parameters
    ----------
    bucket
        Name of the bucket. Default: the first part of the prefix.
    prefix
        Where in the bucket the repository lives.
    account_id
        Account that the bucket belongs to, from which its server is known.
    endpoint_url
        The server, instead.
    region
        Region of the bucket. Default: ``auto``.
    allow_http
        Permit connections without TLS.
    access_key_id, secret_access_key, session_token, expires_after, anonymous, from_env
        Credentials; see `s3_storage`.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `icechunk.s3_refreshable_credentials`.
    network_stream_timeout_seconds, checksum_algorithm, legacy_rooted_keys
        As in `s3_storage`.
    read_headers, write_headers, headers
        HTTP headers to add; see `s3_storage`.

    Raises
    ------
    StorageError
        Kind ``storage-config``: the bucket or the server is not given.
    """
    return new_r2(
        _options(
            region, endpoint_url, allow_http, network_stream_timeout_seconds, checksum_algorithm
        ),
        bucket,
        prefix,
        account_id,
        s3_credentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            expires_after=expires_after,
            anonymous=anonymous,
            from_env=from_env,
            get_credentials=get_credentials,
            scatter_initial_credentials=scatter_initial_credentials,
        ),
        legacy_rooted_keys,
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
    )


def tigris_storage(
    *,
    bucket: str,
    prefix: str | None,
    region: str | None = None,
    endpoint_url: str | None = None,
    use_weak_consistency: bool = False,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    network_stream_timeout_seconds: int = 60,
    checksum_algorithm: ChecksumAlgorithm | str | None = None,
    legacy_rooted_keys: bool | None = None,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Tigris bucket.

    Every request asks for full consistency in the given region.

    Parameters
    ----------
    bucket, prefix
        Where it is; see `s3_storage`.
    region
        Region of the bucket, whose copy is the one that counts.
    endpoint_url
        Server to use. Default: ``https://t3.storage.dev``.
    use_weak_consistency
        Read from any copy, which may be old, instead. Such a storage is read-only.
    allow_http
        Permit connections without TLS.
    access_key_id, secret_access_key, session_token, expires_after, anonymous, from_env
        Credentials; see `s3_storage`.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `icechunk.s3_refreshable_credentials`.
    network_stream_timeout_seconds, checksum_algorithm, legacy_rooted_keys
        As in `s3_storage`.
    read_headers, write_headers, headers
        HTTP headers to add; see `s3_storage`.

    Raises
    ------
    StorageError
        Kind ``storage-other``: there is no region to be consistent in.
    """
    return new_tigris(
        _options(
            region, endpoint_url, allow_http, network_stream_timeout_seconds, checksum_algorithm
        ),
        bucket,
        prefix,
        use_weak_consistency,
        s3_credentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            expires_after=expires_after,
            anonymous=anonymous,
            from_env=from_env,
            get_credentials=get_credentials,
            scatter_initial_credentials=scatter_initial_credentials,
        ),
        legacy_rooted_keys,
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
    )


def hf_storage(
    *,
    bucket: str,
    prefix: str | None,
    namespace: str,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    network_stream_timeout_seconds: int = 60,
    legacy_rooted_keys: bool | None = None,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Hugging Face bucket.

    It keeps no metadata of objects, so whether a commit whose answer got lost took place is told
    by the content alone.

    Parameters
    ----------
    bucket, prefix
        Where it is; see `s3_storage`.
    namespace
        User or organization that the bucket belongs to.
    access_key_id, secret_access_key, session_token, expires_after, from_env
        Credentials; see `s3_storage`.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `icechunk.s3_refreshable_credentials`.
    network_stream_timeout_seconds, legacy_rooted_keys
        As in `s3_storage`.
    read_headers, write_headers, headers
        HTTP headers to add; see `s3_storage`.
    """
    return new_hf(
        _options(None, None, False, network_stream_timeout_seconds, None),
        bucket,
        prefix,
        namespace,
        s3_credentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            expires_after=expires_after,
            from_env=from_env,
            get_credentials=get_credentials,
            scatter_initial_credentials=scatter_initial_credentials,
        ),
        legacy_rooted_keys,
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
    )


# The same of options and credentials that are already made: `Storage.new_...`.


def new_s3(
    config: S3Options,
    bucket: str,
    prefix: str | None,
    credentials: S3Credentials | None = None,
    legacy_rooted_keys: bool | None = None,
    *,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
    shown_as: str = "S3 (native)",
) -> Storage:
    """Make a storage of an S3 bucket."""
    return _s3(
        "new_s3",
        bucket=bucket,
        prefix=prefix,
        region=config.region,
        endpoint_url=_not_tigris(config.endpoint_url),
        allow_http=config.allow_http,
        credentials=_chosen(config, credentials),
        force_path_style=config.force_path_style,
        stall=_stall(config),
        requester_pays=config.requester_pays,
        checksum=config.checksum_algorithm,
        legacy_rooted_keys=legacy_rooted_keys,
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
        shown_as=shown_as,
    )


def new_s3_object_store(
    config: S3Options,
    bucket: str,
    prefix: str | None,
    credentials: S3Credentials | None = None,
    *,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of an S3 bucket, as `new_s3` does."""
    return new_s3(
        config,
        bucket,
        prefix,
        credentials,
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
        shown_as="S3",
    )


def new_r2(
    config: S3Options,
    bucket: str | None = None,
    prefix: str | None = None,
    account_id: str | None = None,
    credentials: S3Credentials | None = None,
    legacy_rooted_keys: bool | None = None,
    *,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Cloudflare R2 bucket."""
    if bucket is None:
        if prefix is None:
            raise StorageError(
                "Either bucket or prefix must be provided.", ErrorKind.STORAGE_CONFIG
            )
        bucket, _, prefix = prefix.partition("/")
    if config.endpoint_url is None and account_id is None:
        raise StorageError(
            "Either endpoint_url or account_id must be provided.", ErrorKind.STORAGE_CONFIG
        )
    return _s3(
        "r2_storage",
        bucket=bucket,
        prefix=prefix,
        region=config.region or "auto",
        endpoint_url=_not_tigris(
            config.endpoint_url or f"https://{account_id}.r2.cloudflarestorage.com"
        ),
        allow_http=config.allow_http,
        credentials=_chosen(config, credentials),
        force_path_style=True,
        stall=_stall(config),
        checksum=config.checksum_algorithm,
        legacy_rooted_keys=legacy_rooted_keys,
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
    )


def new_tigris(
    config: S3Options,
    bucket: str,
    prefix: str | None,
    use_weak_consistency: bool,
    credentials: S3Credentials | None = None,
    legacy_rooted_keys: bool | None = None,
    *,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Tigris bucket."""
    consistency: dict[str, str] = {}
    if not use_weak_consistency:
        if config.region is None:
            raise StorageError(
                "Tigris storage requires a region to provide full consistency: give the region of "
                "the bucket, or use_weak_consistency=True for a read-only storage",
                ErrorKind.STORAGE_OTHER,
            )
        consistency = {
            "x-tigris-regions": config.region,
            "x-tigris-consistent": "true",
            "cache-control": "no-cache",
        }
    return _s3(
        "tigris_storage",
        bucket=bucket,
        prefix=prefix,
        region=config.region,
        endpoint_url=config.endpoint_url or _TIGRIS_ENDPOINT,
        allow_http=config.allow_http,
        credentials=_chosen(config, credentials),
        force_path_style=config.force_path_style,
        stall=_stall(config),
        checksum=config.checksum_algorithm,
        legacy_rooted_keys=legacy_rooted_keys,
        # Those of the consistency win: commits rely on them.
        read_headers=arguments.headers_of(
            dict(arguments.headers_of(headers, read_headers)), consistency
        ),
        write_headers=arguments.headers_of(
            dict(arguments.headers_of(headers, write_headers)), consistency
        ),
        read_only=use_weak_consistency,
    )


def new_hf(
    config: S3Options,
    bucket: str,
    prefix: str | None,
    namespace: str,
    credentials: S3Credentials | None = None,
    legacy_rooted_keys: bool | None = None,
    *,
    read_headers: Headers = None,
    write_headers: Headers = None,
    headers: Headers = None,
) -> Storage:
    """Make a storage of a Hugging Face bucket."""
    arguments.needs_name(namespace, "namespace", "hf_storage")
    return _s3(
        "hf_storage",
        bucket=bucket,
        prefix=prefix,
        region=config.region or "us-east-1",
        endpoint_url=config.endpoint_url or f"https://s3.hf.co/{namespace}",
        allow_http=config.allow_http,
        credentials=_chosen(config, credentials),
        force_path_style=True,
        stall=_stall(config),
        legacy_rooted_keys=legacy_rooted_keys,
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
        keeps_metadata=False,
    )


def _s3(
    function: str,
    *,
    bucket: str,
    prefix: str | None,
    region: str | None,
    endpoint_url: str | None,
    allow_http: bool,
    credentials: S3Credentials,
    force_path_style: bool,
    read_headers: tuple[tuple[str, str], ...],
    write_headers: tuple[tuple[str, str], ...],
    stall: int = _STALL,
    requester_pays: bool = False,
    checksum: ChecksumAlgorithm | str | None = None,
    legacy_rooted_keys: bool | None = None,
    keeps_metadata: bool = True,
    read_only: bool = False,
    shown_as: str = "S3 (native)",
) -> Storage:
    from icechunk.storage.s3 import S3Storage, S3Target  # obstore loads slowly: only if needed

    if endpoint_url is not None:
        arguments.url_parts(endpoint_url, "endpoint_url")
    normal = arguments.normal_prefix(prefix)
    arguments.refuse_rooted_keys(normal, legacy_rooted_keys)
    target = S3Target(
        bucket=arguments.needs_name(bucket, "bucket", function),
        prefix=normal,
        region=region,
        endpoint_url=endpoint_url,
        force_path_style=force_path_style,
        requester_pays=requester_pays,
        checksum_algorithm=arguments.checksum(checksum),
        keeps_metadata=keeps_metadata,
        read_only=read_only,
        shown_as=shown_as,
    )
    sending = Sending(allow_http, stall, read_headers, write_headers)
    return S3Storage(target, credentials, sending)


def _not_tigris(url: str | None) -> str | None:
    if url is not None and _TIGRIS.search(arguments.url_parts(url, "endpoint_url").hostname or ""):
        raise StorageError(
            f"Tigris Storage is not S3 compatible: endpoint {url} needs tigris_storage, which sees "
            "to its consistency",
            ErrorKind.STORAGE_OTHER,
        )
    return url


def _options(
    region: str | None,
    endpoint_url: str | None,
    allow_http: bool,
    stall: int,
    checksum: ChecksumAlgorithm | str | None,
) -> S3Options:
    if isinstance(checksum, str):
        checksum = _named_checksum(checksum)
    return S3Options(
        region=region,
        endpoint_url=endpoint_url,
        allow_http=allow_http,
        network_stream_timeout_seconds=stall,
        checksum_algorithm=checksum,
    )


def _named_checksum(name: str) -> ChecksumAlgorithm:
    known = {"sha256": ChecksumAlgorithm.Sha256, "crc64nvme": ChecksumAlgorithm.Crc64Nvme}
    return known[arguments.checksum(name) or ""]


def _chosen(config: S3Options, credentials: S3Credentials | None) -> S3Credentials:
    if credentials is None:
        return s3_credentials(anonymous=config.anonymous)
    if not isinstance(credentials, S3Credentials):
        raise TypeError(f"credentials must be S3Credentials, not {type(credentials).__name__}")
    return credentials


def _stall(config: S3Options) -> int:
    given = config.network_stream_timeout_seconds
    return _STALL if given is None else given
