"""Text from tags, names and servers: it steers no terminal, forges no line, and looks like what it is."""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.cli import redundancy
from musicfs.cli.output import say_json
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.logs import LogSettings, Place, begin
from musicfs.model import OriginId
from musicfs.tags.names import safe_component, with_suffix_tag
from musicfs.texts import printable, said, without_hidden

HIDDEN = [chr(code) for code in (0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)]
HIDDEN += [chr(code) for code in range(0xE0000, 0xE0080)]
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
FORGED = "x\n2026-01-01 00:00:00,000 ERROR musicfs.daemon.process: forged\r\x1b[31m\x9b31m\u2028<2>forged\u202e"
JOINED = ["می‌خواهم", "क्‍ष", "👩‍🎤", "👩🏽‍🚀", "❤️‍🔥", "نامه‌ای"]
ALL = st.text(st.characters(exclude_categories=()) | st.sampled_from(HIDDEN + CONTROLS + ["\u200c", "\u200d"]))


@pytest.mark.parametrize("sign", HIDDEN + CONTROLS, ids=lambda sign: f"{ord(sign):04X}")
def test_a_sign_that_steers_or_hides_is_written_out_and_stays_in_no_name(sign: str) -> None:
    assert sign not in printable(f"a{sign}b")
    assert printable(f"a{sign}b").startswith("a\\")
    assert sign not in safe_component(f"a{sign}b")
    assert safe_component(f"a{sign}b") == ("ab" if sign in HIDDEN else "a_b")


@pytest.mark.parametrize("text", JOINED)
def test_joiners_stay_where_scripts_and_emoji_need_them(text: str) -> None:
    assert printable(text) == text
    assert safe_component(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("text", ["\u200da", "a\u200c", "a \u200db", "a\u200d\u200db", "\u200d", "a.\u200db"])
def test_joiners_that_join_nothing_go(text: str) -> None:
    assert not {"\u200c", "\u200d"} & set(printable(text))
    assert not {"\u200c", "\u200d"} & set(safe_component(text))


@given(ALL)
def test_no_text_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & {*HIDDEN, *CONTROLS}
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown) == shown


@given(ALL)
def test_no_name_holds_such_signs_and_a_safe_one_stays_as_it_is(text: str) -> None:
    name = safe_component(text)
    assert not set(name) & {*HIDDEN, *CONTROLS}
    assert safe_component(name) == name
    assert not set(with_suffix_tag(text, "abcdef")) & {*HIDDEN, *CONTROLS}
    assert without_hidden(without_hidden(text)) == without_hidden(text)


def test_a_name_that_only_looks_like_another_is_that_name() -> None:
    assert safe_component("\u202e3pm.exe") == "3pm.exe"
    assert safe_component("\ufeff.hidden\u200b") == "_hidden"
    assert safe_component("So\u200bng") == "Song"


def log_of(place: Place, tell: Callable[[logging.Logger], None], *, as_json: bool = False) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        begin(LogSettings(logging.DEBUG, (), as_json, place), handler)
        tell(logging.getLogger("musicfs.test"))
    finally:
        root.handlers = before
    return stream.getvalue()


@pytest.mark.parametrize("place", ["terminal", "journal", "file"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_record_is_one_line_whatever_it_holds(place: Place, as_json: bool) -> None:
    text = log_of(place, lambda log: log.warning("%s fails: %s", FORGED, FORGED), as_json=as_json)
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert not set(text[:-1]) & {*HIDDEN, *CONTROLS}


@pytest.mark.parametrize("place", ["terminal", "journal", "file"])
def test_the_lines_of_a_traceback_can_not_be_taken_for_records(place: Place) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("it failed", stack_info=True)

    first, *rest = log_of(place, fail).removesuffix("\n").split("\n")
    assert first.endswith("it failed")
    for line in rest:
        assert line.removeprefix("<3>").startswith("  | "), line
        assert not set(line) & {*HIDDEN, *CONTROLS}
    assert any("test_texts.py" in line for line in rest)


def test_what_a_server_says_is_cut_and_is_one_line() -> None:
    assert said("a\n b\x1b") == "a b\\x1b"
    assert len(said("x" * 10**6)) == 200
    failed = OriginFailed(OriginId("a"), OriginFault.IO, FORGED * 10_000)
    assert len(str(failed)) < 600
    assert not set(str(failed)) & {*HIDDEN, *CONTROLS}
    lost = ReplicaFailed(OriginId("a"), FORGED * 10_000, ReplicaFault.DENIED, FORGED * 10_000)
    assert len(str(lost)) < 5000
    assert not set(str(lost)) & {*HIDDEN, *CONTROLS}


@pytest.mark.parametrize("beginning", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_table_is_a_formula(beginning: str, capsys: pytest.CaptureFixture[str]) -> None:
    view = {
        "albums": [{"path": f"{beginning}{FORGED}", "origins": [beginning], "in_one": 1, "bytes": 2}],
        "if_lost": [],
        "differing": [{"path": f"{beginning}{FORGED}", "origin": "a", "block": -1, "against": beginning}],
    }
    redundancy._print_csv(view, None)
    out = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(out)))
    assert [len(row) for row in rows] == [7, 7, 7]
    assert not set(out) - {"\n"} & {*HIDDEN, *CONTROLS}
    assert all(not cell.startswith(("=", "+", "@")) for row in rows for cell in row)
    assert rows[1][1].startswith("'" + printable(beginning))
    assert rows[1][3:5] == ["1", "2"]
    assert rows[2][5] == "-1"


def test_json_for_programs_holds_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"path": FORGED})
    assert not set(capsys.readouterr().out) - {"\n"} & {*HIDDEN, *CONTROLS}
