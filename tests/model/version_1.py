"""The model, its driver and the machine for repositories of spec version 1.

Branches and tags answer some mistakes otherwise, and what came with version 2 is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn

from model.driver import Driver
from model.machine import RepositoryMachine
from model.repository import Model, _conflict
from model.values import FailedError

import icechunk


class ModelOfVersion1(Model):
    """See the module."""

    def _of_repository(self) -> dict[str, Any]:
        return {}

    def open_session(self, session: int, mode: str, branch: str) -> int:
        if mode == "rearrange":
            self._refuse()
        return super().open_session(session, mode, branch)

    def create_branch(self, name: str, snapshot: int) -> None:
        if name in self.branches:
            raise _conflict("branch-update-conflict", None, self.branches[name])
        super().create_branch(name, snapshot)

    def create_tag(self, name: str, snapshot: int) -> None:
        if name in self.used_tags:
            raise FailedError("AlreadyExistsError", "tag-already-exists")
        super().create_tag(name, snapshot)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise FailedError("FormatError", "unsupported-spec-version")

    amend = set_metadata = update_metadata = set_online = operations = _refuse


class DriverOfVersion1(Driver):
    """See the module."""

    def create(self, threshold: int, split: int | None, page: int | None) -> None:
        super().create(threshold, split, page, spec_version=1)

    def _of_repository(self) -> dict[str, Any]:
        assert self._repo.spec_version == 1
        return {}


class MachineOfVersion1(RepositoryMachine):
    """See the module; in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ModelOfVersion1()

    def make_system(self) -> DriverOfVersion1:
        return DriverOfVersion1(icechunk.in_memory_storage())
