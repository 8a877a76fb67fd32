"""Listing a large folder in several ranges of names at once, where a store lists in order.

It begins with one listing. Only when that goes on for long, and is in order, the rest is divided,
evenly for names that are random ids. Knows no store: pages come from a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice, pairwise
from typing import Final, NamedTuple

from icechunk.storage.base import ObjectInfo

__all__ = ["list_in_ranges"]

Page = Sequence[ObjectInfo]

#: So many pages come one after the other before ranges are worth their requests.
PAGES_BEFORE: Final = 4
#: Ids are written with these, in this order.
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class _Range(NamedTuple):
    pages: Iterator[Page]
    after: str
    until: str
    """The last key of it, if there is such an object; empty for all there are."""

    def next_page(self) -> tuple[list[ObjectInfo], bool]:
        """Return what lies in the range of the next page, and whether there may be more."""
        page = next(self.pages, None)
        if not page:
            return [], page is not None
        is_past = bool(self.until) and page[-1].key > self.until
        found = [
            info
            for info in page
            if info.key > self.after and (not self.until or info.key <= self.until)
        ]
        return found, not is_past


def list_in_ranges(
    pages_after: Callable[[str], Iterator[Page]], folder: str, at_once: int
) -> Iterator[list[ObjectInfo]]:
    """Iterate over the objects below a folder, by the page, in no particular order.

    Parameters
    ----------
    pages_after
        Lists the folder from behind a key, or from the start for an empty one. Called and gone
        through in several threads, each listing in one at a time.
    folder
        The folder, without a slash at the end.
    at_once
        How many listings to have under way; two or more.
    """
    first = pages_after("")
    keys = [""]
    for page in islice(first, PAGES_BEFORE):
        yield list(page)
        keys += [info.key for info in page]
    if keys != sorted(keys):  # some stores with the interface of S3 keep no order
        yield from map(list, first)
        return
    places = len(_DIGITS) ** 2
    bounds = [divmod(number * places // at_once, len(_DIGITS)) for number in range(1, at_once)]
    starts = [f"{folder}/{_DIGITS[high]}{_DIGITS[low]}" for high, low in bounds]
    ends = [keys[-1], *(start for start in starts if start > keys[-1]), ""]
    ranges = [
        _Range(first if number == 0 else pages_after(after), after, until)
        for number, (after, until) in enumerate(pairwise(ends))
    ]
    with ThreadPoolExecutor(at_once, "icechunk-list") as pool:
        running: dict[Future[tuple[list[ObjectInfo], bool]], _Range] = {
            pool.submit(part.next_page): part for part in ranges
        }
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                part = running.pop(future)
                found, goes_on = future.result()
                if goes_on:
                    running[pool.submit(part.next_page)] = part
                if found:
                    yield found
