"""Which servers keep the promise that every commit rests on, seen without our own storage."""

from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError

CAREFUL = ("s3_server", "azure_server", "gcs_server")


def as_condition(result):
    """Version of what was put, in the spelling that every server takes: without quotes."""
    return {name: text.strip('"') for name, text in result.items() if text is not None}


@pytest.mark.parametrize("client", CAREFUL, indirect=True)
def test_careful_servers_refuse(client):
    first = client.put("a", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        client.put("a", b"2", mode="create")
    second = client.put("a", b"2", mode=as_condition(first))
    with pytest.raises(PreconditionError):
        client.put("a", b"3", mode=as_condition(first))
    assert client.get("a").bytes() == b"2"
    assert second != first


@pytest.mark.parametrize("client", ["careless_s3_server"], indirect=True)
def test_the_careless_server_overwrites(client):
    first = client.put("a", b"1", mode="create")
    client.put("a", b"2", mode="create")
    client.put("a", b"3", mode=as_condition(first))
    assert obstore.get(client, "a").bytes() == b"3"


@pytest.mark.parametrize("client", CAREFUL, indirect=True)
def test_only_one_of_many_creators_wins(client):
    def create(number):
        try:
            client.put("a", str(number).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(24)))
    assert won.count(True) == 1
    assert int(client.get("a").bytes().to_bytes()) == won.index(True)
