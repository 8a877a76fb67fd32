"""Where the folders of tests are: in memory, when the machine has a place for that with room.

Commits wait for the disk, many thousand times in a run of all tests, and no test pulls the plug:
those of durability look at what is asked of the system.
"""

from __future__ import annotations

import os
from pathlib import Path

MEMORY = Path("/dev/shm")
VARIABLE = "PYTEST_DEBUG_TEMPROOT"
ROOM = 2 * 1024**3
"""Free bytes to ask for: several times what a whole run needs, as folders go with their tests."""


def keep_folders_in_memory() -> None:
    """Have pytest make its folders there, unless it was told where."""
    if VARIABLE in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM:
        os.environ[VARIABLE] = str(MEMORY)
