"""The last step of a walk: what is stored and nothing refers to, counted by kind of object."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, id_column
from icechunk.format.layout import MANIFESTS, SNAPSHOTS, TRANSACTIONS
from icechunk.ops.verify.inventory import Inventory, take_inventory
from icechunk.ops.verify.tour import Tour
from icechunk.verification import FaultKind

__all__ = ["note_leftovers", "note_unused"]

_KEEP: Final = (
    "Collect no garbage before the errors are mended: objects of what cannot be read are among it"
)


def note_leftovers(tour: Tour, used_logs: list[bytes], manifests: npt.NDArray[np.uint8]) -> None:
    """Note the metadata files that were not visited.

    Parameters
    ----------
    tour
        The walk, done.
    used_logs
        Ids of the transaction logs in use.
    manifests
        Ids of the manifests that snapshots refer to.
    """
    snapshots = [visited.recorded.id for visited in tour.visited]
    for folder, ids in (
        (SNAPSHOTS, id_column(snapshots, OBJECT_ID_SIZE)),
        (TRANSACTIONS, id_column(used_logs, OBJECT_ID_SIZE)),
        (MANIFESTS, manifests),
    ):
        inventory = take_inventory(tour.storage, folder)
        slots = inventory.locate(ids)
        is_used = np.zeros(len(inventory), np.bool_)
        is_used[slots[slots >= 0]] = True
        note_unused(tour, inventory, is_used)


def note_unused(tour: Tour, inventory: Inventory, is_used: npt.NDArray[np.bool_]) -> None:
    """Note the objects of a folder that are not in use, and those that are none of ours."""
    unused = np.flatnonzero(~is_used)
    if len(unused):
        size = int(inventory.sizes[unused].sum(dtype=np.uint64))
        young = int((inventory.modified_us[unused] > tour.source.changed_us).sum())
        message = f"objects that nothing refers to: {len(unused)}, of {size} bytes"
        if young:
            message += (
                f"; {young} of them are younger than the last update of the repository, and may "
                "belong to sessions that have not committed yet"
            )
        remedy = _KEEP if tour.findings.has_errors() else None
        key = f"{inventory.folder}/"
        tour.findings.add(FaultKind.UNREFERENCED_OBJECTS, key, message, remedy=remedy)
    for key in inventory.foreign:
        message = "its name is none that objects here are given"
        tour.findings.add(FaultKind.FOREIGN_OBJECT, key, message)
