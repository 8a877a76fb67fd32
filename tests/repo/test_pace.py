"""Waits adapt to contention: none without, longer with every loss, back to none with successes."""

import random

from icechunk.format.repo_info import RepoInfo, SnapshotEntry, SnapshotTable
from icechunk.repo.pace import LOOK_BACK, MOST_SECONDS, Pace, Traffic

BUSY = Traffic(LOOK_BACK, 1e-5)
QUIET = Traffic(LOOK_BACK, 1e5)


def test_who_never_loses_never_waits():
    pace = Pace()
    for _ in range(5):
        pace.won(0.1, BUSY)
    assert pace.delay(0.999) == 0


def test_losses_lengthen_and_successes_shorten():
    pace = Pace()
    waits = []
    for _ in range(4):
        pace.lost(0.01, BUSY)
        waits.append(pace.delay(0.5))
    assert waits == sorted(waits)
    assert len(set(waits)) == 4
    won = 0
    while pace.delay(0.5):
        pace.won(0.01, QUIET)
        won += 1
    assert 2 < won < 100


def test_a_single_loss_is_taken_for_an_accident():
    pace = Pace()
    pace.lost(0.01, QUIET)
    assert 0 < pace.delay(0.5) < 0.1
    pace.won(0.01, QUIET)
    assert pace.delay(0.999) == 0


def test_many_losses_of_one_commit_make_hasty():
    pace = Pace()
    waits = []
    for _ in range(12):
        pace.lost(0.01, BUSY)
        waits.append(pace.delay(0.5))
    assert waits[-1] < max(waits) / 4


def test_as_long_as_the_branch_is_busy_a_success_does_not_shorten_much():
    pace = Pace()
    pace.lost(0.01, BUSY)
    pace.lost(0.01, BUSY)
    wait = pace.delay(0.5)
    pace.won(0.01, BUSY)
    assert pace.delay(0.5) == wait


def test_load_is_commits_per_attempt():
    assert Traffic(0, 10).load(1) == 0
    assert Traffic(10, 10).load(0.5) == 0.5
    assert Traffic(10, -3).load(0.5) > 1  # clocks differ


def test_own_commits_are_no_traffic():
    entries, parent = [], None
    for n in range(LOOK_BACK + 5):
        entries.append(SnapshotEntry(bytes([n]) * 12, parent, 1_000_000 * (n + 1), ""))
        parent = entries[-1].id
    info = RepoInfo(SnapshotTable.from_entries(entries), {"main": parent, "b": entries[4].id})
    pace = Pace()
    now = 30_000_000
    assert pace.traffic(info, "main", now) == Traffic(LOOK_BACK, now / 1e6 - 6)
    for n in (LOOK_BACK + 4, LOOK_BACK):
        pace.remember(bytes([n]) * 12)
    assert pace.traffic(info, "main", now) == Traffic(LOOK_BACK - 2, now / 1e6 - 6)
    assert pace.traffic(info, "b", now) == Traffic(5, now / 1e6 - 1)
    assert pace.traffic(info, "gone", now).load(1) == 0


def test_waits_are_measured_in_attempts_and_bounded():
    quick, slow = Pace(), Pace()
    quick.lost(0.001, QUIET)
    slow.lost(1, QUIET)
    assert abs(slow.delay(0.5) / quick.delay(0.5) - 1000) < 1e-6
    slow.lost(1, QUIET)
    for _ in range(3):
        slow.lost(1, BUSY)
        assert slow.delay(0.999) <= MOST_SECONDS


def simulate(writers, commits, *, attempt=0.05, seed=1):
    """Race for one branch in virtual time; return the attempts each commit took, and the time.

    An attempt fails when anybody's swap lands while it is under way.
    """
    chance = random.Random(seed)
    paces = [Pace() for _ in range(writers)]
    todo = [commits] * writers
    tries = [1] * writers
    begun = [chance.random() * 1e-3 for _ in range(writers)]
    landed, attempts = [(-1.0, -1)], []
    while any(todo):
        active = [w for w in range(writers) if todo[w]]
        writer = min(active, key=lambda w: begun[w] + attempt)
        now = begun[writer] + attempt
        is_lost = landed[-1][0] > begun[writer]
        if not is_lost:
            landed.append((now, writer))
        lesson = paces[writer].lost if is_lost else paces[writer].won
        recent = landed[-LOOK_BACK:]
        others = sum(who != writer for _, who in recent)
        lesson(attempt, Traffic(others, now - recent[0][0]))
        if is_lost:
            tries[writer] += 1
        else:
            attempts.append(tries[writer])
            tries[writer] = 1
            todo[writer] -= 1
        jitter = attempt * 0.2 * chance.random()
        begun[writer] = now + jitter + paces[writer].delay(chance.random())
    return sorted(attempts), now


def test_twenty_writers_need_few_attempts_and_nobody_waits_for_ever():
    attempts, seconds = zip(*(simulate(20, 20, seed=seed) for seed in range(4)), strict=True)
    together = sorted(attempt for run in attempts for attempt in run)
    assert len(together) == 4 * 400
    assert together[int(0.99 * len(together))] <= 5
    # One after the other without any loss would take 20 seconds.
    assert max(seconds) < 160


def test_two_writers_hardly_slow_each_other_down():
    attempts, seconds = simulate(2, 50)
    assert attempts[int(0.99 * len(attempts))] <= 5
    assert seconds < 100 * 0.05 * 10
