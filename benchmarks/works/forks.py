"""Send forks back from workers: pickle, unpickle and merge them; memory storage.

Every fork has written native chunks (one byte each, through the store, untimed) in a part of the
array of its own.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import icechunk
from works.common import (
    all_native,
    count_refs,
    expect,
    repository_with_array,
    rewound_session,
    set_chunks,
    timed,
)


class Work:
    def __init__(self, folder: Path, forks: int, chunks: int) -> None:
        self.count, self.chunks = forks * chunks, chunks
        self.repo = repository_with_array(icechunk.in_memory_storage(), (self.count,), all_native())
        self.base = self.repo.lookup_branch("main")
        session = self.repo.writable_session("main")
        self.forks = []
        for number in range(forks):
            fork = session.fork()
            first = number * chunks
            set_chunks(fork.store, (f"a/c/{i}" for i in range(first, first + chunks)), b"x")
            self.forks.append(fork)

    def measure(self) -> dict[str, float]:
        session = rewound_session(self.repo, self.base)

        def gather() -> int:
            messages = [pickle.dumps(fork) for fork in self.forks]
            session.merge(*map(pickle.loads, messages))
            return sum(map(len, messages))

        seconds, size = timed(gather)
        expect("references", count_refs(self.repo, session.commit("forks")), self.count)
        return {"merge": seconds, "bytes_per_ref": size / self.count}
