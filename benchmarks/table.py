"""From measurements to a table: medians, ratios, and whether what is demanded is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rows import OURS, Row

SCALES = {"us": 1e6, "MB": 1e-6}
"""From seconds, bytes and counts to the units that rows are shown in; all others stay."""
HEADINGS = ("work", "ours", "other", "ratio", "demanded", "")


@dataclass(frozen=True)
class Result:
    """A row with its measurements, in the row's unit, by side."""

    work: str
    row: Row
    title: str
    values: dict[str, tuple[float, ...]]
    note: str = ""

    def median(self, side: str) -> float | None:
        """Median of a side's runs; None when it did not run."""
        values = self.values.get(side)
        return statistics.median(values) if values else None

    @property
    def ratio(self) -> float | None:
        """The other side's median divided by ours: how many times better ours is."""
        ours, other = self.median(OURS), self.median(self.row.against)
        return other / ours if ours and other else None

    @property
    def demanded(self) -> str:
        """What must hold, in words."""
        row = self.row
        if row.at_least is not None:
            return f"{row.at_least:g}x"
        if row.at_most is None:
            return ""
        if row.as_multiple:
            return f"<= {row.at_most:g} times"
        return f"<= {row.at_most:g} {row.unit}"

    @property
    def is_met(self) -> bool | None:
        """Whether it holds; None when nothing is demanded or the other side is missing."""
        row, ours = self.row, self.median(OURS)
        if row.at_least is not None:
            return None if self.ratio is None else self.ratio >= row.at_least
        if row.at_most is None or ours is None:
            return None
        if row.as_multiple:
            return None if self.ratio is None else 1 / self.ratio <= row.at_most
        return ours <= row.at_most

    def as_json(self) -> dict[str, Any]:
        """Return everything about the row."""
        return {
            "work": self.work,
            "title": self.title.strip(),
            "unit": self.row.unit,
            "values": self.values,
            "against": self.row.against,
            "ratio": self.ratio,
            "demanded": self.demanded,
            "met": self.is_met,
            "note": self.note,
        }


def result_of(
    work: str,
    row: Row,
    params: dict[str, Any],
    measured: dict[str, list[dict[str, float]]],
    note: str = "",
) -> Result:
    """Gather the measurements of one row from those of its work."""
    numbers = {name: f"{value:,}" for name, value in params.items() if isinstance(value, int)}
    scale = SCALES.get(row.unit, 1.0)
    values = {
        side: tuple(run[row.measurement] * scale for run in runs)
        for side, runs in measured.items()
        if runs and row.measurement in runs[0]
    }
    return Result(work, row, row.title.format(**numbers), values, note)


def render(results: Iterable[Result]) -> str:
    """Lay the results out as a table for the terminal, which is Markdown too."""
    lines = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = [_line(line, widths) for line in lines]
    text.insert(1, _line(["-" * width for width in widths], widths))
    return "\n".join(text)


def _cells(result: Result) -> Sequence[str]:
    row = result.row
    ratio = result.ratio
    verdict = {True: "met", False: "MISSED", None: ""}[result.is_met]
    other = _number(result, row.against)
    if other and row.against != "reference":
        other += f" {row.against}"
    return (
        result.title + (f" ({result.note})" if result.note else ""),
        _number(result, OURS),
        other,
        f"{ratio:.2f}" if ratio is not None else "",
        result.demanded,
        verdict,
    )


def _number(result: Result, side: str) -> str:
    """Median and, for several runs, the extremes."""
    median = result.median(side)
    if median is None:
        return ""
    values = result.values[side]
    whole = all(value == int(value) for value in values)
    digits = 0 if median >= 100 or whole else 1 if median >= 20 else 2 if median >= 1 else 3
    shown = f"{median:.{digits}f} {result.row.unit}"
    if len(values) > 1 and max(values) != min(values):
        shown += f" ({min(values):.{digits}f}-{max(values):.{digits}f})"
    return shown


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)) + " |"
