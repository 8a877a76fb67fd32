"""A real server that ignores conditions is found out and refused.

That the others are found safe is part of `icechunk.testing.StorageContract`.
"""

import pytest

from icechunk import Repository, RepositoryConfig, StorageError, StorageSettings


def test_a_server_that_ignores_conditions_is_refused_unless_insisted_on(careless_s3_server):
    storage = careless_s3_server.storage()
    found = Repository.check_storage(storage)
    assert not found.is_safe
    assert found["create if absent"].holds is False
    assert found["replace if unchanged"].holds is False
    with pytest.raises(StorageError, match="would be lost without notice") as caught:
        Repository.create(storage)
    assert caught.value.kind == "storage-config"
    assert not Repository.exists(storage)
    insisting = StorageSettings(
        unsafe_use_conditional_create=False, unsafe_use_conditional_update=False
    )
    repo = Repository.create(storage, RepositoryConfig(storage=insisting))
    repo.create_tag("a-tag", repo.lookup_branch("main"))
    assert Repository.open(storage).list_tags() == {"a-tag"}
