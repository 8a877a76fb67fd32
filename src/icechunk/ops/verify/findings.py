"""Faults as they are found: kept up to a number, counted beyond it."""

from __future__ import annotations

from collections import Counter

from icechunk.errors import IcechunkError
from icechunk.format.ids import encode_id
from icechunk.ops.verify.rules import RULES, kind_of, text_of
from icechunk.storage.base import ObjectNotFound
from icechunk.verification import Checked, Fault, FaultKind, FaultSeverity, VerifyReport

__all__ = ["Findings"]

_GRAVITY = {severity: -rank for rank, severity in enumerate(FaultSeverity)}


class Findings:
    """Collects faults. For one thread.

    Parameters
    ----------
    limit
        How many faults to keep; of those beyond only the kind is counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[FaultSeverity, list[Fault]] = {severity: [] for severity in FaultSeverity}
        self._by_kind: Counter[FaultKind] = Counter()
        self._by_severity: Counter[FaultSeverity] = Counter()

    def add(
        self,
        kind: FaultKind,
        key: str,
        message: str,
        *,
        path: str | None = None,
        snapshot_id: bytes | None = None,
        is_needed: bool = True,
        severity: FaultSeverity | None = None,
        remedy: str | None = None,
    ) -> None:
        """Record a fault.

        Parameters
        ----------
        kind, key, message, path, snapshot_id
            See `Fault`.
        is_needed
            Whether some branch or tag leads to what is at fault; else it is a warning at most.
        severity, remedy
            In place of those that the kind has by itself.
        """
        rule = RULES[kind]
        severity = rule.severity if severity is None else severity
        if not is_needed and severity is FaultSeverity.ERROR:
            severity = FaultSeverity.WARNING
            message += "; no branch or tag leads to it"
        self._by_kind[kind] += 1
        self._by_severity[severity] += 1
        kept = self._kept[severity]
        if len(kept) < self._limit:
            shown_id = None if snapshot_id is None else encode_id(snapshot_id)
            remedy = rule.remedy if remedy is None else remedy
            kept.append(Fault(kind, severity, key, message, remedy, path, shown_id))

    def add_error(
        self,
        error: IcechunkError,
        key: str,
        *,
        kind: FaultKind | None = None,
        missing: tuple[FaultKind, str] | None = None,
        path: str | None = None,
        snapshot_id: bytes | None = None,
        is_needed: bool = True,
        severity: FaultSeverity | None = None,
        remedy: str | None = None,
    ) -> None:
        """Record what was raised when a file was fetched and decoded.

        `missing` is kind and message for a file that is not there; `kind`, by default, what the
        error tells; the rest is as for `add`.
        """
        if missing is not None and isinstance(error, ObjectNotFound):
            kind, message = missing
        else:
            kind = kind_of(error) if kind is None else kind
            message = text_of(error).removeprefix(f"{key}: ").removeprefix(f"{key} is corrupt: ")
        self.add(
            kind,
            key,
            message,
            path=path,
            snapshot_id=snapshot_id,
            is_needed=is_needed,
            severity=severity,
            remedy=remedy,
        )

    def count(self, *kinds: FaultKind) -> int:
        """Count the faults of some kinds."""
        return sum(self._by_kind[kind] for kind in kinds)

    def has_errors(self) -> bool:
        """Whether anything grave was found."""
        return self._by_severity[FaultSeverity.ERROR] > 0

    def report(self, spec_version: int, state_key: str, checked: Checked) -> VerifyReport:
        """Put everything found into a report, the gravest first."""
        faults: list[Fault] = []
        for severity in sorted(FaultSeverity, key=_GRAVITY.__getitem__):
            faults += self._kept[severity][: self._limit - len(faults)]
        return VerifyReport(
            spec_version=spec_version,
            state_key=state_key,
            faults=tuple(faults),
            counts=dict(self._by_kind),
            errors=self._by_severity[FaultSeverity.ERROR],
            warnings=self._by_severity[FaultSeverity.WARNING],
            notes=self._by_severity[FaultSeverity.NOTE],
            checked=checked,
        )
