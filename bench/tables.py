"""What is measured side by side, as rows of every round's value, and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "musicfs"
NO_PEERS = ("plain folder", "bare pyfuse3", "musicfs, local origin")
"""What is measured beside, and not to be compared with."""


@dataclass
class Row:
    """One measure: the value of every round, seconds as a rule, by contender."""

    name: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, contender: str) -> float:
        return statistics.median(self.seconds[contender])


@dataclass
class Table:
    """The rows of one kind, and its contenders in the order of the columns, ours last."""

    kind: str
    names: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, name: str, contender: str, value: float) -> None:
        if contender not in self.names:
            self.names.append(contender)
        self.rows.setdefault(name, Row(name)).seconds.setdefault(contender, []).append(value)


def as_markdown(table: Table) -> str:
    """Medians with the fastest and slowest round. The last column: how many times the best peer's time is ours."""
    lines = [f"| {table.kind} | " + " | ".join(table.names) + " | best peer / musicfs |"]
    lines.append("|---" * (len(table.names) + 2) + "|")
    for row in table.rows.values():
        cells = [_cell(row, name) for name in table.names]
        peers = [row.median(name) for name in table.names if name in row.seconds and name not in (OURS, *NO_PEERS)]
        ratio = f"{min(peers) / row.median(OURS):.2f}" if peers and OURS in row.seconds else ""
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def _cell(row: Row, name: str) -> str:
    if not (values := row.seconds.get(name)):
        return ""
    least, most = min(values), max(values)
    digits = 4 if most < 1 else 2
    return f"{row.median(name):.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def as_json(tables: Sequence[Table]) -> dict[str, Any]:
    return {table.kind: {row.name: row.seconds for row in table.rows.values()} for table in tables}
