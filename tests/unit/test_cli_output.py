"""What is printed, on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.cli.output import Word, counted, duration_text, ms_text, say, say_json, size_text, table
from musicfs.texts import printable


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_one_line_that_utf_8_can_carry_and_no_terminal_obeys(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown


def test_letters_of_all_languages_stay_as_they_are() -> None:
    assert printable("Björk 坂本龍一 がく\u3000x 👩‍🎤") == "Björk 坂本龍一 がく\u3000x 👩‍🎤"


def test_bytes_that_are_no_utf_8_are_written_out() -> None:
    assert printable(os.fsdecode(b"n\xffme\n")) == "n\\xffme\\n"


def test_a_table_in_a_pipe_is_aligned_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    table(("ID", "FILES", "WHERE"), [("laptop", "1,234", "/a"), (Word("nas", "red"), "5", "")], right=(1,))
    assert capsys.readouterr().out == "ID      FILES  WHERE\nlaptop  1,234  /a\nnas         5  -\n"


def test_a_line_in_a_pipe_has_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    say("nas is ", Word("unhealthy", "bold red"))
    assert capsys.readouterr().out == "nas is unhealthy\n"


def test_json_is_ascii_and_keeps_every_byte_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode("Björk/n".encode() + b"\xff")
    say_json({"path": name})
    out = capsys.readouterr().out
    assert out.isascii()
    assert os.fsencode(json.loads(out)["path"]) == os.fsencode(name)


def _on_a_terminal(code: str, **env: str) -> str:
    ours, theirs = pty.openpty()
    try:
        base = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=theirs, check=True, timeout=60, env=base | {"TERM": "xterm"} | env
        )
        assert done.returncode == 0
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


_TABLE = """
from musicfs.cli.output import *
say("now ", Word("bad", "red"), " [b]x[/b]")
table(("ID", "HEALTH"), [("[red]x[/red]", Word("fine", "green"))])
"""


def test_a_terminal_gets_colours_and_names_are_no_markup() -> None:
    out = _on_a_terminal(_TABLE)
    assert "\x1b[31mbad" in out
    assert "[red]x[/red]" in out
    assert "[b]x[/b]" in out


def test_no_color_is_honoured_on_a_terminal() -> None:
    out = _on_a_terminal(_TABLE, NO_COLOR="1")
    assert "\x1b[31m" not in out
    assert "\x1b[32m" not in out
    assert "fine" in out


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_600, "100 kB"), (999_600, "1.0 MB"), (5e15, "5000 TB")],
)
def test_sizes_have_two_or_three_digits(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("secs", "text"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (86400, "1 day"), (400000, "4 days")]
)
def test_durations_name_the_largest_unit(secs: float, text: str) -> None:
    assert duration_text(secs) == text


def test_numbers_and_nouns_agree() -> None:
    assert counted(1, "file") == "1 file"
    assert counted(1234, "file") == "1,234 files"
    assert ms_text(None) == "-"
    assert ms_text(0.42) == "0.4 ms"
    assert ms_text(1234.5) == "1234 ms"


def test_one_long_cell_in_a_pipe_does_not_widen_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "SIZE"), [("x" * 200, "1"), ("short", "2")], right=(1,))
    header, long, short = capsys.readouterr().out.splitlines()
    assert len(header) == len(short) == 60 + 2 + 4
    assert long == "x" * 200 + "     1"
