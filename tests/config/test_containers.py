"""Which virtual chunk containers are accepted, and how they replace each other."""

from typing import Any

import pytest

from icechunk.config import RepositoryConfig, VirtualChunkContainer
from icechunk.config.object_stores import (
    ObjectStoreConfig,
    S3Options,
    azure_store,
    gcs_store,
    http_store,
    local_filesystem_store,
    s3_store,
)

S3 = s3_store()
TIGRIS = ObjectStoreConfig.Tigris(S3Options())
AZURE = azure_store(account="a")


@pytest.mark.parametrize(
    ("prefix", "store"),
    [
        ("s3://b/", S3),
        ("S3://b/", S3),
        ("s3://b//", S3),
        ("s3://b/a b?c/", S3),
        ("s3://b/x/../y/", s3_store(s3_compatible=True)),
        ("s3://b/", TIGRIS),
        ("tigris://b/", TIGRIS),
        ("gs://b/", gcs_store()),
        ("gcs://b/x/", gcs_store()),
        ("az://c/", AZURE),
        ("azure://c/", AZURE),
        ("abfs://c/", AZURE),
        ("http://h/", http_store()),
        ("https://h:80/x/", http_store()),
        ("file:///tmp/", local_filesystem_store("/tmp")),
    ],
)
def test_accepted(prefix: str, store: Any) -> None:
    config = RepositoryConfig()
    config.set_virtual_chunk_container(VirtualChunkContainer(prefix, store))
    assert list(config.virtual_chunk_containers or ()) == [prefix]


@pytest.mark.parametrize(
    ("prefix", "store", "name", "text"),
    [
        ("s3://b", S3, None, "must end in a / character"),
        ("", S3, None, "must end in a / character"),
        ("s3://b/", S3, "", "name must be non-empty"),
        ("s3://b/", S3, "a/b", "not contain '/'"),
        ("s3://b/", gcs_store(), None, r"Invalid url prefix scheme \(s3\) for this object store"),
        ("tigris://b/", S3, None, r"Invalid url prefix scheme \(tigris\)"),
        ("abfss://c/", AZURE, None, r"Invalid url prefix scheme \(abfss\)"),
        ("vcc://b/", S3, None, r"Invalid url prefix scheme \(vcc\)"),
        ("s3://b/", ObjectStoreConfig.InMemory(), None, "Invalid url prefix scheme"),
        ("s3://b/", http_store(), None, "Invalid url prefix scheme"),
        ("s3://b/\0/", S3, None, "null character"),
        ("foo/", S3, None, "relative URL without a base"),
        ("/", S3, None, "relative URL without a base"),
        ("s3:///", S3, None, "must include a host"),
        ("s3:b/", S3, None, "must include a host"),
        ("gcs://", gcs_store(), None, "must include a host"),
        ("http://h:99999/", http_store(), None, "invalid port number"),
        ("http://[/", http_store(), None, "url_prefix"),
        ("http:///", http_store(), None, "empty host"),
    ],
)
def test_refused(prefix: str, store: Any, name: str | None, text: str) -> None:
    config = RepositoryConfig()
    container = VirtualChunkContainer(prefix, store, name)
    with pytest.raises(ValueError, match=text):
        config.set_virtual_chunk_container(container)
    assert config.virtual_chunk_containers is None


def test_replacing() -> None:
    config = RepositoryConfig()

    def names() -> dict[str, str | None]:
        return {k: c.name for k, c in (config.virtual_chunk_containers or {}).items()}

    config.set_virtual_chunk_container(VirtualChunkContainer("s3://b/", S3, "n1"))
    config.set_virtual_chunk_container(VirtualChunkContainer("s3://a/", S3, "n2"))
    config.set_virtual_chunk_container(VirtualChunkContainer("s3://c/", S3, "n1"))
    assert names() == {"s3://a/": "n2", "s3://c/": "n1"}
    config.set_virtual_chunk_container(VirtualChunkContainer("s3://a/", S3))
    assert names() == {"s3://a/": None, "s3://c/": "n1"}
    config.set_virtual_chunk_container(VirtualChunkContainer("s3://a/", S3, "n1"))
    assert names() == {"s3://a/": "n1"}


def test_reading_and_clearing() -> None:
    config = RepositoryConfig()
    container = VirtualChunkContainer("s3://a/", S3, "n")
    config.set_virtual_chunk_container(container)
    assert config.get_virtual_chunk_container("s3://a/") == container
    assert config.get_virtual_chunk_container("s3://a") is None
    assert config.get_virtual_chunk_container("n") is None
    assert (config.virtual_chunk_containers or {}).pop("s3://a/")
    assert config.get_virtual_chunk_container("s3://a/") is not None
    container.url_prefix = "nonsense"
    assert list(config.virtual_chunk_containers or ()) == ["s3://a/"]
    config.clear_virtual_chunk_containers()
    assert config.virtual_chunk_containers == {}


def test_constructor_does_not_judge() -> None:
    container = VirtualChunkContainer("s3://b", gcs_store(), "")
    config = RepositoryConfig(virtual_chunk_containers={"a": container})
    assert config.virtual_chunk_containers == {"a": container}
