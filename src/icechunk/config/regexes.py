"""Regular expressions of conditions, applied to array paths, names and dimension names.

A pattern is searched anywhere in the text, unless it anchors itself, and a pattern that is no
valid regular expression matches nothing, which is logged once. Patterns travel with the repository
to implementations in other languages: keep to what all of them share (no look-around, no
back-references, no Unicode property classes).
"""

from __future__ import annotations

import logging
import re
import warnings
from functools import lru_cache

log = logging.getLogger(__name__)


def matches(pattern: str, text: str) -> bool:
    """Tell whether `pattern` is found in `text`; never for an invalid pattern."""
    compiled = _compiled(pattern)
    return compiled is not None and compiled.search(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python may one day read differently
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        # Raised nowhere: it may be valid to the implementation that stored it. But its author
        # should learn why nothing is split or preloaded.
        log.warning(
            "The regular expression %r of a manifest condition is invalid and never matches: %s",
            pattern,
            error,
        )
        return None
