"""Listings and deletions of more objects than a server answers or takes with one request."""

import asyncio

import pytest

COUNT = 1005
"""One more than a page or a batch of 1000 would do, and keys that sort unlike their numbers."""


def test_more_than_a_page(s3_server):
    if not s3_server.checks_signatures:
        pytest.skip("the emulator would take a minute for so many objects")
    storage = s3_server.storage()
    keys = [f"chunks/{number}" for number in range(COUNT)]

    async def upload():
        limit = asyncio.Semaphore(20)

        async def one(key):
            async with limit:
                await storage.put_new_async(key, key.encode())

        await asyncio.gather(*map(one, keys))

    asyncio.run(upload())
    storage.put("chunks2/apart", b"x")
    listed = {info.key: info.size for info in storage.list("chunks/")}
    assert listed == {key: len(key) for key in keys}
    spared = set(keys[::100])
    storage.delete([key for key in keys if key not in spared] + ["chunks/absent"])
    assert {info.key for info in storage.list("chunks/")} == spared
    storage.delete(keys)  # most of them are gone
    assert [info.key for info in storage.list()] == ["chunks2/apart"]
