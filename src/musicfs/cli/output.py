"""Printing: colours and tables on a terminal, plain aligned lines in a pipe, JSON when asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from musicfs.logs import place_of_stderr
from musicfs.texts import printable as printable

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "


class Word(NamedTuple):
    """Text with a style of rich. A pipe gets the text alone."""

    text: str
    style: str = ""


def say(*words: str | Word) -> None:
    """Prints one line on standard output."""
    if not sys.stdout.isatty():
        print("".join(printable(_word(word).text) for word in words))
        return
    from rich.text import Text

    pieces = [(printable(text), style) for text, style in map(_word, words)]
    _console().print(Text.assemble(*pieces), soft_wrap=True)


def warn(sentence: str) -> None:
    """Prints one line on standard error, with a priority if that is systemd's journal."""
    journal = "JOURNAL_STREAM" in os.environ and place_of_stderr() == "journal"
    print(f"{'<4>' if journal else ''}musicfs: {printable(sentence)}", file=sys.stderr)


def say_json(value: object) -> None:
    """Prints JSON in ASCII, which no terminal, pipe or locale spoils. Bytes that are no UTF-8 are lone surrogates."""
    print(json.dumps(value, indent=2, ensure_ascii=True))


_MAX_COLUMN = 60


def table(header: Sequence[str], rows: Sequence[Sequence[str | Word]], right: Sequence[int] = ()) -> None:
    """Prints a table. `right` has the numbers of the columns that are aligned to the right."""
    words = [[_word(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(header, words, right)
        return
    lines = [list(header), *([printable(word.text) or "-" for word in row] for row in words)]
    # One long name must not push the rest of every line out of sight.
    widths = [min(max(map(len, column)), _MAX_COLUMN) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(_GAP.join(cells).rstrip())


def _rich_table(header: Sequence[str], rows: Sequence[Sequence[Word]], right: Sequence[int]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(header):
        shown.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(word.text) or "-", word.style) for word in row))
    _console().print(shown)


def _word(word: str | Word) -> Word:
    return word if isinstance(word, Word) else Word(word)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun: 1 file, 1,234 files."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def spreadsheet_cell(text: str) -> str:
    """Returns a cell that no spreadsheet takes for a formula: it puts a quote before such text, as people do."""
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def size_text(size: float) -> str:
    """Returns a size in bytes as people write it: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"


def duration_text(secs: float) -> str:
    """Returns a duration in its largest unit: 5 s, 3 min, 2 h, 4 days."""
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if secs >= length:
            number = int(secs // length)
            return counted(number, unit) if unit == "day" else f"{number} {unit}"
    return f"{max(0, int(secs))} s"


def ms_text(ms: float | None) -> str:
    """Returns milliseconds as people write them: 0.4 ms, 123 ms; `-` for None."""
    return "-" if ms is None else f"{ms:.1f} ms" if ms < 99.5 else f"{ms:.0f} ms"
