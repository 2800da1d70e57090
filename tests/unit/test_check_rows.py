"""Rows of the checksum file in memory: they are the file's, and bounded."""

from __future__ import annotations

import pytest

from musicfs.content import check_rows
from musicfs.content.check_rows import CheckRows, Row

OLD: Row = (bytes(16), bytes(8), b"\x01", b"")
NEW: Row = (bytes(16), bytes(8), b"\xff", b"")


def test_a_content_is_known_to_have_no_row_once_all_rows_are_here() -> None:
    rows = CheckRows()
    rows.add([(b"a", OLD)], is_last=False)
    assert (rows.get(b"a"), rows.get(b"x"), rows.is_whole) == (OLD, None, False)
    rows.add([(b"b", OLD)], is_last=True)
    assert (rows.get(b"x"), rows.is_whole) == (None, True)


def test_what_is_written_replaces_a_row_and_is_not_replaced_by_an_earlier_read() -> None:
    rows = CheckRows()
    rows.add([(b"a", OLD)], is_last=False)
    rows.put(b"a", NEW)
    rows.put(b"b", NEW)
    rows.add([(b"b", OLD), (b"c", OLD)], is_last=True)
    assert [rows.get(key) for key in (b"a", b"b", b"c")] == [NEW, NEW, OLD]


@pytest.mark.parametrize("is_written", [True, False])
def test_beyond_its_room_it_knows_only_the_rows_it_has(monkeypatch: pytest.MonkeyPatch, is_written: bool) -> None:
    monkeypatch.setattr(check_rows, "_ROOM", 1000)
    rows = CheckRows()
    rows.add([(b"a", OLD), (b"b", OLD)], is_last=True)
    assert rows.is_whole
    assert not rows.is_full
    if is_written:
        rows.put(b"c", NEW)
    else:
        rows.add([(b"c", OLD)], is_last=True)
    assert rows.is_full
    assert [rows.get(key) for key in (b"a", b"b", b"c")] == [OLD, OLD, None]
    assert not rows.is_whole
    rows.put(b"a", NEW)
    rows.put(b"d", NEW)
    rows.add([], is_last=True)
    assert (rows.get(b"a"), rows.get(b"d"), rows.is_whole) == (NEW, None, False)
