"""The names in playlists, cue sheets and lists of checksums mean the files that their authors meant."""

from __future__ import annotations

import codecs
import posixpath
import time
from collections.abc import Collection, Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.library.references import PARSERS, ResolvedText, folded, resolve
from musicfs.tags.text_files import MAX_TEXT, references, rendered


class Files:
    """An origin with these files."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def existing(self, paths: Collection[str]) -> set[str]:
        return set(self.paths) & set(paths)

    def in_folder(self, folder: str) -> Iterable[str]:
        return [posixpath.basename(path) for path in self.paths if posixpath.dirname(path) == folder]

    def named(self, names: Collection[str]) -> Mapping[str, Collection[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            key = folded(posixpath.basename(path))
            if key in names:
                found.setdefault(key, []).append(path)
        return found


MUSIC = Files(
    "Ada/Live/01 - Zebra.flac", "Ada/Live/02 - Müll.flac", "Bob/Album/01 - Café.mp3", "Bob/Album/CDImage.flac"
)
ZEBRA, RUBBISH, CAFE, IMAGE = MUSIC.paths


def renamed(text: ResolvedText) -> str:
    """The text with the files' paths in another order of folders."""
    return rendered(
        text.pieces, lambda each: f"../{text.paths[each.target]}" if each.target in text.paths else None
    ).decode()


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("01 - Zebra.flac", ZEBRA),
        ("./01 - Zebra.flac", ZEBRA),
        ("../../Bob/Album/01 - Café.mp3", CAFE),
        ("..\\..\\Bob\\Album\\01 - Café.mp3", CAFE),
        ("C:\\Users\\Ada\\Music\\Bob\\Album\\01 - Café.mp3", CAFE),
        ("\\\\nas\\music\\Bob\\Album\\01 - Café.mp3", CAFE),
        ("/home/ada/Music/Bob/Album/01 - Café.mp3", CAFE),
        ("file:///home/ada/Music/Bob/Album/01%20-%20Caf%C3%A9.mp3", CAFE),
        ("file://localhost/music/Bob/Album/01%20-%20Caf%C3%A9.mp3", CAFE),
        ("file:///C:/Music/Bob/Album/01%20-%20Caf%C3%A9.mp3", CAFE),
        ("Bob/Album/01%20-%20Caf%C3%A9.mp3", CAFE),
        ("bob/album/01 - CAFÉ.MP3", CAFE),
        ("01 - Cafe\u0301.mp3", CAFE),
        ("old place/01 - Café.mp3", CAFE),
        ("01 - ZEBRA.flac", ZEBRA),
    ],
)
def test_a_name_means_the_file_that_is_left_of_its_path(written: str, path: str) -> None:
    found = resolve(f"#EXTM3U\n{written}\n".encode(), "m3u8", "Ada/Live", MUSIC)
    assert (dict(found.paths), found.unresolved) == ({written: path}, 0)
    assert renamed(found) == f"#EXTM3U\n../{path}\n"


@pytest.mark.parametrize(
    "written", ["http://radio.test/live.mp3", "gone.flac", "../../../etc/passwd", "spotify:track:1"]
)
def test_what_means_no_file_stays_as_it_is(written: str) -> None:
    found = resolve(f"{written}\n".encode(), "m3u", "Ada/Live", MUSIC)
    assert found.paths == {}
    assert found.unresolved == (":" not in written)
    assert renamed(found) == f"{written}\n"


def test_a_name_that_two_files_have_means_neither() -> None:
    assert resolve(b"x/01.flac", "m3u", "lists", Files("a/01.flac", "b/01.flac")).unresolved == 1
    assert resolve(b"x/01.flac", "m3u", "lists", Files("a/01.flac")).paths == {"x/01.flac": "a/01.flac"}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("Müll", "utf-8"), ("Müll", "utf-8-sig"), ("Müll", "utf-16"), ("Müll", "cp1252"), ("東京", "shift_jis"),
        ("北京", "gb18030"), ("Москва", "cp1251"), ("Москва", "koi8_r"), ("서울", "euc_kr"), ("Łódź", "cp1250"),
    ],
)  # fmt: skip
def test_the_files_show_the_encoding(name: str, encoding: str) -> None:
    files = Files(f"Ada/{name}.flac", "Ada/other.flac")
    found = resolve(f"#EXTINF:1,{name}\r\n{name}.flac\r\n".encode(encoding), "m3u", "Ada", files)
    assert found.paths == {f"{name}.flac": f"Ada/{name}.flac"}
    assert renamed(found) == f"#EXTINF:1,{name}\r\n../Ada/{name}.flac\r\n"


def test_a_name_whose_bytes_are_not_utf_8_at_the_origin_either_is_found() -> None:
    found = resolve("Müll.flac\n".encode("latin-1"), "m3u", "Ada", Files("Ada/M\udcfcll.flac"))
    assert found.paths == {"M\udcfcll.flac": "Ada/M\udcfcll.flac"}
    assert rendered(found.pieces, lambda each: "Mull.flac") == b"Mull.flac\n"


SHEET = 'REM GENRE Jazz\r\nPERFORMER "Bob"\r\nFILE {} WAVE\r\n  TRACK 01 AUDIO\r\n    TITLE "File 1"\r\n'


@pytest.mark.parametrize(
    "written", ['"CDImage.flac"', '"CDImage.wav"', "CDImage.wav", '"C:\\rips\\cdimage.WAV"', '"cdimage.ape"']
)
def test_a_cue_sheet_finds_its_image_whatever_it_has_become(written: str) -> None:
    found = resolve(SHEET.format(written).encode(), "cue", "Bob/Album", MUSIC)
    assert renamed(found) == SHEET.format(f'"../{IMAGE}"')


def test_pls_and_xspf_are_rewritten_in_their_own_notation() -> None:
    pls = "[playlist]\nFile1=..\\Ada\\Live\\01 - Zebra.flac\nTitle1=Zebra\nLength1=-1\nfile2=http://radio.test/\n"
    assert renamed(resolve(pls.encode(), "pls", "lists", MUSIC)) == pls.replace("..\\Ada\\Live\\01", "../Ada/Live/01")
    xspf = (
        '<?xml version="1.0" encoding="{}"?>\n<playlist xmlns="http://xspf.org/ns/0/"><location>here.xspf</location>'
        "<trackList><track><location>{}</location><title>Müll &amp; more</title></track></trackList></playlist>"
    )
    source = xspf.format("ISO-8859-1", "file:///music/Ada/Live/02%20-%20M%C3%BCll.flac").encode("latin-1")
    assert renamed(resolve(source, "xspf", "lists", MUSIC)) == xspf.format(
        "UTF-8", "../Ada/Live/02%20-%20M%C3%BCll.flac"
    )


@pytest.mark.parametrize(
    ("extension", "line"),
    [
        ("md5", "d41d8cd98f00b204e9800998ecf8427e *{}"), ("md5", "d41d8cd98f00b204e9800998ecf8427e  {}"),
        ("sha256", "SHA256 ({}) = " + "0" * 64), ("sfv", "{} DEADBEEF"),
        ("ffp", "{}:d41d8cd98f00b204e9800998ecf8427e"),
    ],
)  # fmt: skip
def test_checksums_follow_their_files(extension: str, line: str) -> None:
    text = "; a comment\n" + line.format("01 - Zebra.flac") + "\n"
    found = resolve(text.encode(), extension, "Ada/Live", MUSIC)
    assert renamed(found) == "; a comment\n" + line.format(f"../{ZEBRA}") + "\n"


@given(st.sampled_from(sorted(PARSERS)), st.text(max_size=200))
def test_only_names_change(extension: str, text: str) -> None:
    pieces = PARSERS[extension](text)
    assert rendered(pieces, lambda each: None) == text.encode("utf-8", "surrogateescape") or "<?xml" in text
    assert all(each.target for each in references(pieces) if extension != "xspf")


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=300))
def test_any_bytes_are_a_text(extension: str, data: bytes) -> None:
    found = resolve(data, extension, "Ada", MUSIC)
    assert set(found.paths.values()) <= set(MUSIC.paths)


HOSTILE = {
    "m3u": [
        b"../" * (MAX_TEXT // 3),
        b"a/" * (MAX_TEXT // 2),
        b"%" * MAX_TEXT,
        b"\\" * MAX_TEXT,
        b"x\n" * (MAX_TEXT // 8),
    ],
    "cue": [b'FILE "' * (MAX_TEXT // 6), b"FILE " + b" a" * (MAX_TEXT // 2), b"FILE a" + b" " * MAX_TEXT],
    "sfv": [b"a" + b" " * MAX_TEXT, (b"a " * 4000 + b"\n") * 100],
    "md5": [b"0" * MAX_TEXT, b"A (" * (MAX_TEXT // 3)],
    "pls": [b"file" + b"1" * MAX_TEXT, b" " * MAX_TEXT + b"file1=x"],
    "xspf": [b"<" * MAX_TEXT, b"<track><location>" * (MAX_TEXT // 17), b"<?xml " + b"encoding=" * (MAX_TEXT // 9)],
    "ffp": [b":" * MAX_TEXT, b"a:" * (MAX_TEXT // 2)],
}


@pytest.mark.parametrize(("extension", "number"), [(e, n) for e, texts in HOSTILE.items() for n in range(len(texts))])
def test_no_text_takes_long(extension: str, number: int) -> None:
    started = time.process_time()
    resolve(codecs.BOM_UTF8 + HOSTILE[extension][number][:MAX_TEXT], extension, "Ada", MUSIC)
    assert time.process_time() - started < 5  # linear ones take less than one second here


def test_a_text_of_thousands_of_folders_asks_about_some_of_them() -> None:
    asked: list[str] = []

    class Counted(Files):
        def in_folder(self, folder: str) -> Iterable[str]:
            asked.append(folder)
            return super().in_folder(folder)

    text = "".join(f"folder {number}/song.flac\n" for number in range(5000))
    assert resolve(text.encode(), "m3u8", "Ada", Counted(*MUSIC.paths)).unresolved == 5000
    assert len(asked) <= 1000
