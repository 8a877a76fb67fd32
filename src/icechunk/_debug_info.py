"""What to put into a report of a problem: versions of this package and of those it works with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from icechunk._version import __version__

__all__ = ["print_debug_info", "user_agent"]

NEIGHBOURS: Final = ("zarr", "numcodecs", "xarray", "virtualizarr")


def user_agent() -> str:
    """Return the name under which object stores see this package."""
    return f"icechunk-python/{__version__}"


def print_debug_info() -> None:
    """Print the versions of Python, of this package and of those it works with.

    Packages that are not installed are left out; none is imported.
    """
    facts = {"platform": platform.platform(), "python": platform.python_version()}
    facts["icechunk"] = __version__
    for name in NEIGHBOURS:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    for name, value in facts.items():
        print(f"{name}:  {value}")
