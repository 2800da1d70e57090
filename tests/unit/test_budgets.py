"""Whatever a file, a name or a server's answer holds: it costs little of a processor, and little memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from musicfs.library.parse_pool import Parsers
from musicfs.tags.parse_messages import FileToParse
from musicfs.tags.parser import Examined
from musicfs.tags.range_file import MAX_IN_ALL, RangeFile
from musicfs.tags.tags import Tags
from tests.support import hostile, hostile_answers, hostile_text
from tests.support.audio import FORMATS, make_audio, picture
from tests.support.budget import within

CPU_SECS = 2
MEGABYTES = 1024
FILE_MEGABYTES = 100
"""An interpreter takes 35 of them."""


@pytest.mark.parametrize("name", hostile.FILES)
def test_a_file_that_is_made_to_keep_a_parser_busy_does_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.FILES[name]())
    within(CPU_SECS, FILE_MEGABYTES, "tests.support.hostile:read_file", str(path))


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_do_such_files_that_are_cut_joined_and_overwritten(seed: int) -> None:
    within(40, MEGABYTES, "tests.support.hostile:fuzz", seed, 300)


@pytest.fixture(scope="module")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small file of each format, with tags and a picture."""
    folder = tmp_path_factory.mktemp("real")
    tags = {"title": "Song", "artist": ["A", "B"], "album": "Album", "track": 3, "date": "1999", "genre": "Rock"}
    return [
        make_audio(folder / f"a.{ext}", seconds=0.2, tags=tags, cover=None if ext == "wma" else picture(3_000))
        for ext in FORMATS
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_do_real_files_of_every_format_that_are_mutated(real_files: list[Path], seed: int) -> None:
    within(40, MEGABYTES, "tests.support.hostile:fuzz_files", [str(path) for path in real_files], seed, 6000)


async def test_nor_do_they_end_a_parser_process(real_files: list[Path]) -> None:
    chance, parsers = random.Random(3), Parsers(1)
    cases = [(path.name, hostile.mutated(chance, path.read_bytes())) for path in real_files * 40]
    try:
        parsers.warm()
        pids = parsers.pids
        for name, data in cases:
            found = await parsers.examine(FileToParse(name, "audio", len(data), {0: data[:MAX_IN_ALL]}, 2.0))
            assert isinstance(found, Examined), (name, found)
        assert parsers.pids == pids
    finally:
        parsers.close()


@pytest.mark.parametrize("name", hostile_answers.ANSWERS)
def test_answers_of_servers_that_are_mutated_are_understood_or_refused_at_little_cost(name: str) -> None:
    within(20, MEGABYTES, "tests.support.hostile_answers:fuzz", name, 1, 2000)


def test_the_first_of_many_comments_count(tmp_path: Path) -> None:
    """As many as no real file has; what comes behind them is another matter."""
    pairs = [b"TITLE=Song", b"ARTIST=A", b"artist=B", b"no pair", *(b"k%d=x" % number for number in range(900))]
    found = hostile.read(hostile.flac(hostile.comments([*pairs, b"ALBUM=Album", *pairs, b"DATE=1999"])), "a.flac")
    assert isinstance(found, Tags)
    assert (found.title, found.artist, found.album, found.year) == ("Song", "A; B", "Album", None)


@pytest.mark.parametrize("format", ["flac", "mp3", "m4a", "ogg", "opus"])
def test_a_large_cover_takes_few_reads(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_audio(tmp_path / f"a.{format}", tags={"title": "Song", "artist": "A"}, cover=picture(10_000_000))
    reads = []
    read_at = RangeFile.read_at

    def counted(self: RangeFile, offset: int, size: int) -> bytes:
        reads.append(offset)
        return read_at(self, offset, size)

    monkeypatch.setattr(RangeFile, "read_at", counted)
    found = hostile.read(file.read_bytes(), file.name)
    assert isinstance(found, Tags)
    assert found.title == "Song"
    assert len(reads) < 1000


@pytest.mark.parametrize("part", range(4))
def test_text_of_100_000_characters_that_is_made_to_be_slow_is_not(part: int) -> None:
    """200 texts for each function: seconds where none takes the square of a length, else hours."""
    within(60, MEGABYTES, "tests.support.hostile_text:call", *list(hostile_text.FUNCTIONS)[part::4])


def test_no_expression_takes_the_square_of_a_texts_length() -> None:
    within(60, MEGABYTES, "tests.support.hostile_text:expressions")


def test_nothing_but_what_is_promised_comes_of_any_text() -> None:
    within(60, MEGABYTES, "tests.support.hostile_text:fuzz_all", 1, 100)
