"""What goes between the worker and a parser: it arrives as it was sent, and nothing else is believed."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.model import Fingerprint
from musicfs.tags.parse_messages import (
    HEADER,
    MAX_ANSWER,
    FileToParse,
    InvalidAnswer,
    answer,
    read_answer,
    read_request,
    request,
)
from musicfs.tags.parser import Examined, FileOnDisk, MissingBytes, dump_tags
from musicfs.tags.tags import MAX_CHARACTERS, MAX_VALUES, Tags

IDENTITY = Fingerprint(bytes(range(32)))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str | None: st.none() | TEXT,
    int | None: st.none() | st.integers(0, 2**31 - 1),
    float | None: st.none() | st.floats(0, 1e7),
    bool: st.booleans(),
    tuple[str, ...]: st.lists(TEXT, max_size=5).map(tuple),
}
TAGS = st.builds(
    Tags,
    format=st.sampled_from(["flac", "mp3", "m4a"]),
    codec=TEXT,
    **{name: VALUES[hint] for name, hint in get_type_hints(Tags).items() if name not in ("format", "codec")},
)


def text_of(message: bytes) -> bytes:
    size, more = HEADER.unpack_from(message)
    assert (size, more) == (len(message) - HEADER.size, 0)
    return message[HEADER.size :]


@given(TAGS)
def test_tags_arrive_as_they_were_sent(tags: Tags) -> None:
    found = Examined(IDENTITY, dump_tags(tags.to_json()), None)
    read = read_answer(text_of(answer(found)))
    assert isinstance(read, Examined)
    assert read.tags is not None
    assert Tags.from_json(json.loads(read.tags)) == tags


@pytest.mark.parametrize(
    "found",
    [None, MissingBytes(5, 10, 0.25), Examined(IDENTITY, None, None), Examined(IDENTITY, None, "why \u2028 not")],
)
def test_other_answers_do(found: Examined | MissingBytes | None) -> None:
    assert read_answer(text_of(answer(found))) == found


def test_a_problem_of_any_text_arrives() -> None:
    read = read_answer(text_of(answer(Examined(IDENTITY, None, "\udc80" + "x" * 10_000))))
    assert isinstance(read, Examined)
    assert read.problem is not None
    assert read.problem.startswith("?xxx")


def test_tags_that_are_too_long_for_an_answer_are_a_problem() -> None:
    values = tuple("\U0001f600" * MAX_CHARACTERS for _ in range(MAX_VALUES))
    tags = Tags("flac", "flac", artists=values, genres=values)
    message = answer(Examined(IDENTITY, dump_tags(tags.to_json()), None))
    assert len(message) <= MAX_ANSWER
    read = read_answer(text_of(message))
    assert isinstance(read, Examined)
    assert (read.tags, read.problem) == (None, "its tags have more than 256 KiB of text")


GOOD = {"format": "flac", "codec": "flac"}
CHECKED = "00" * 32


@pytest.mark.parametrize(
    "bad",
    [
        "ready", 1, [], {}, [1], [1, 2], [1, 2, 3], [True, 2, 0.0], [1, True, 0.0], [-1, 2, 0.0], [1, 0, 0.0],
        [1, 5_000_000, 0.0], [2**63, 1, 0.0], [1, 1, -1.0], [CHECKED, None], [CHECKED, None, None, None],
        ["00" * 31, None, None], ["zz" * 32, None, None], [CHECKED, [], None], [CHECKED, {}, None],
        [CHECKED, None, 5], [CHECKED, None, "x" * 501], [CHECKED, None, "\ud800"],
        *([CHECKED, GOOD | more, None] for more in (
            {"format": "../x"}, {"format": ""}, {"format": "x" * 17}, {"codec": 5}, {"codec": ""}, {"title": ["x"]},
            {"title": "x" * 2001}, {"title": "\ud800"}, {"title": ""}, {"title": True}, {"track": -1}, {"track": 1.5},
            {"track": True}, {"track": 2**31}, {"year": "1999"}, {"duration_s": "5"}, {"duration_s": -1.0},
            {"compilation": 1}, {"artists": "A"}, {"artists": [1]}, {"artists": ["x"] * 101}, {"artists": [["x"]]},
            {"unknown": "x"}, {"__class__": "x"},
        )),
    ],
)  # fmt: skip
def test_what_no_parser_of_ours_answers_is_refused(bad: object) -> None:
    with pytest.raises(InvalidAnswer):
        read_answer(json.dumps(bad).encode())


@pytest.mark.parametrize(
    "bad",
    [b"", b"\xff", b"{", b"[" * 200_000, b"1" * 200_000, b'{"a":' * 100_000, b"NaN", b"[1,1,1e999]",
     b'["' + b"00" * 32 + b'",{"format":"flac","codec":"x","duration_s":Infinity},null]'],
)  # fmt: skip
def test_neither_is_what_is_no_json(bad: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        read_answer(bad)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_nothing_but_a_refusal_comes_of_any_bytes(data: bytes) -> None:
    try:
        found = read_answer(data)
    except InvalidAnswer:
        return
    assert found is None or isinstance(found, Examined | MissingBytes)


def test_what_is_checked_is_what_is_kept() -> None:
    """Readers of the JSON may take another of two values with one name."""
    text = f'["{CHECKED}",{{"codec":"a","format":"flac","title":"first","title":"second" }},null]'
    found = read_answer(text.encode())
    assert isinstance(found, Examined)
    assert found.tags == '{"codec":"a","format":"flac","title":"second"}'


def test_requests_arrive_as_they_were_sent() -> None:
    files: list[FileOnDisk | FileToParse] = [
        FileOnDisk("odd \udcff name", "audio", 10**12, -5, None),
        FileToParse("b.mp3", "audio", 100, {0: b"head", 90: b"the tail"}, 1.5),
        FileOnDisk("c", "sidecar", 0, 1, 1000),
        FileToParse("d", "sidecar", 0, {}, 2.0),
    ]
    message = b"".join(request(files))
    size, more = HEADER.unpack_from(message)
    text, raw = message[HEADER.size : HEADER.size + size], message[HEADER.size + size :]
    assert len(raw) == more
    assert read_request(text, raw) == files
