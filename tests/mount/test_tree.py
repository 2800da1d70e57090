"""What is listed is what the catalogue holds, whoever asks and however."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.view import TreeView
from tests.support.audio import make_album, make_audio, make_garbage
from tests.support.mounting import Account, Mount, Place, eventually, place

About = tuple[int, int, int]
"""Inode number, size, mtime_ns."""

AWKWARD = [
    "Motörhead – Ægishjálmur",
    "夜に駆ける",
    "it's 'quoted' $HOME `id` & co; (no) #tag",
    "e\u0301 combining",
    "🎵 emoji",
    "x" * 250,
    "é" * 125,
]


def tree(top: Path) -> dict[str, About]:
    """Everything below `top`, by path."""
    found = {}
    for folder, folders, files in os.walk(top, onerror=_fail):
        for name in folders + files:
            path = Path(folder, name)
            about = path.stat()
            found[str(path.relative_to(top))] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def _fail(error: OSError) -> None:
    raise error


def catalogued(catalog: Path) -> dict[str, About]:
    """What the mount ought to show, likewise."""
    view = TreeView.open(catalog)
    found = {}

    def walk(ino: int, above: str) -> None:
        for child, name, content, size, mtime_ns, _ in view.children(ino, 0, 1_000_000):
            found[above + name] = (child, size, mtime_ns)
            if content is None:
                walk(child, f"{above}{name}/")

    walk(ROOT_INO, "")
    view.close()
    return found


def names(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder)]


def errno_of(call: Callable[[Path], object], path: Path) -> int:
    try:
        call(path)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.fixture(scope="module")
def library(who: Account) -> Iterator[Mount]:
    with place(who) as here:
        root = here.origins / "one"
        make_album(root, "Artist", "Album", 3)
        make_album(root, "Artist", "Double", 2, disc=1, folder="Artist/Double/CD 1")
        make_album(root, "Artist", "Double", 2, disc=2, folder="Artist/Double/CD 2", seed=3)
        for number, title in enumerate(AWKWARD):
            tags = {"title": title, "artist": "Ünïcode", "album": title[:40], "track": number + 1}
            make_audio(root / f"awkward/{number}.flac", seed=number % 4, tags=tags)
        make_garbage(root / "not really.mp3", 5000)
        (root / "Artist/Album/cover.jpg").write_bytes(b"\xff\xd8\xff picture")
        with Mount(here, {"one": root}) as mount:
            yield mount.scanned()


def test_every_file_and_folder_is_as_the_catalogue_has_it(library: Mount) -> None:
    shown = library.here.call(tree, library.path)
    assert shown == library.here.call(catalogued, library.here.cache_dir / "catalog.sqlite")
    assert len([path for path in shown if path.endswith((".flac", ".mp3", ".jpg"))]) == 3 + 4 + len(AWKWARD) + 2


def test_sizes_and_times_are_those_of_the_origins_files(library: Mount) -> None:
    shown = library.here.call(tree, library.path)
    for number in (1, 2, 3):
        about = (library.origins["one"] / f"Artist/Album/{number:02} - Title {number}.flac").stat()
        assert shown[f"Artist/Album (1999) [FLAC]/{number:02} - Title {number}.flac"][1:] == (
            about.st_size,
            about.st_mtime_ns,
        )


def test_find_agrees_with_stat(library: Mount) -> None:
    shown = library.here.call(tree, library.path)
    found = library.here.run("find", library.path, "-mindepth", "1", "-printf", r"%P\t%i\t%s\n").stdout
    assert sorted(found.splitlines()) == sorted(f"{path}\t{ino}\t{size}" for path, (ino, size, _) in shown.items())


def test_ls_shows_the_folder_itself_and_the_one_above(library: Mount) -> None:
    top = library.here.run("ls", "-a", library.path).stdout.splitlines()
    assert top[:2] == [".", ".."]
    inside = library.here.run("ls", "-ai", library.path / "Artist").stdout.split("\n")
    shown = library.here.call(tree, library.path)
    assert inside[0].split() == [str(shown["Artist"][0]), "."]
    assert inside[1].split() == [str(ROOT_INO), ".."]


def test_awkward_names_can_be_listed_opened_and_are_within_255_bytes(library: Mount) -> None:
    shown = library.here.call(tree, library.path)
    titles = [Path(path).name for path in shown if path.startswith("Ünïcode/") and path.endswith(".flac")]
    assert len(titles) == len(AWKWARD)
    assert max(len(title.encode()) for title in titles) == 255
    assert any("夜に駆ける" in title for title in titles)
    assert any("it's 'quoted' $HOME `id` & co; (no) #tag" in title for title in titles)
    for path in shown:
        if path.endswith(".flac"):
            assert library.here.call(Path.read_bytes, library.path / path)[:4] == b"fLaC"


def test_statfs_tells_the_librarys_size_and_no_free_space(library: Mount) -> None:
    shown = library.here.call(tree, library.path)
    total = sum(size for _, size, _ in shown.values())

    def counted() -> bool:
        about = library.here.call(os.statvfs, library.path)
        return about.f_files == len(shown) + 1 and 0 <= about.f_blocks * about.f_frsize - total < about.f_frsize

    eventually(counted, "statfs as large as the library")
    about = library.here.call(os.statvfs, library.path)
    assert (about.f_bfree, about.f_bavail, about.f_ffree, about.f_namemax) == (0, 0, 0, 255)
    assert about.f_flag & os.ST_RDONLY


def test_extended_attributes_tell_where_a_file_comes_from(library: Mount) -> None:
    album = library.path / "Artist/Album (1999) [FLAC]"
    song = album / "01 - Title 1.flac"
    for name, value in (("origin", "one"), ("replicas", "one"), ("cached", "0%"), ("pinned", "no")):
        dump = library.here.run("getfattr", "-n", f"user.musicfs.{name}", song).stdout
        assert f'user.musicfs.{name}="{value}"' in dump
    contents = {
        library.here.call(os.getxattr, album / f"0{number} - Title {number}.flac", "user.musicfs.content")
        for number in (1, 2, 3)
    }
    assert sorted(map(len, contents)) == [64, 64, 64]
    assert library.here.call(os.listxattr, album) == []
    assert library.here.call(os.listxattr, song) == []
    missing = library.here.run("getfattr", "-n", "user.nonsense", album / "01 - Title 1.flac", check=False)
    assert "No such attribute" in missing.stderr


def test_copies_carry_no_attributes_of_the_mount(library: Mount) -> None:
    song = library.path / "Artist/Album (1999) [FLAC]/01 - Title 1.flac"
    copy = library.here.user / "copy.flac"
    library.here.run("cp", "--archive", song, copy)
    assert library.here.call(os.listxattr, copy) == []
    assert library.here.call(os.path.getsize, copy) == library.here.call(os.path.getsize, song)


def test_a_folder_has_one_link_and_an_inode_number_that_a_double_can_hold(library: Mount) -> None:
    for path in ("", "Artist", "Artist/Album (1999) [FLAC]"):
        about = library.here.call(os.stat, library.path / path)
        assert about.st_nlink == 1
        assert 0 < about.st_ino < 2**53


def test_names_that_do_not_exist_are_not_found(library: Mount) -> None:
    for name in ("nothing", "Artist/nothing", "x" * 255):
        assert library.here.call(errno_of, os.stat, library.path / name) == errno.ENOENT
    assert library.here.call(errno_of, os.listdir, library.path / "Artist/nothing") == errno.ENOENT
    assert library.here.call(errno_of, os.stat, library.path / ("x" * 256)) == errno.ENAMETOOLONG
    not_utf8 = Path(os.fsdecode(os.fsencode(library.path) + b"/caf\xe9"))
    assert library.here.call(errno_of, os.stat, not_utf8) == errno.ENOENT


def test_a_name_that_was_missing_appears_once_its_file_is_there(
    here: Place, record_property: Callable[[str, object], None]
) -> None:
    """The kernel has been told that there is no such name, and remembers."""
    root = here.origins / "one"
    make_album(root, "Artist", "Album", 1)
    made = make_album(here.base / "aside", "Artist", "Album", 2)[1]
    with Mount(here, {"one": root}) as mount:
        mount.scanned()
        late = mount.path / "Artist/Album (1999) [FLAC]/02 - Title 2.flac"
        for _ in range(2):
            assert here.call(errno_of, os.stat, late) == errno.ENOENT
        made.rename(root / "Artist/Album/02 - Title 2.flac")
        record_property("seconds", eventually(lambda: here.call(os.path.exists, late), "the new file"))


def test_inode_numbers_and_names_survive_a_remount_and_a_scan(here: Place) -> None:
    root = here.origins / "one"
    make_album(root, "Artist", "Album", 3)
    make_album(root, "Other", "Record", 2, ext="mp3")
    with Mount(here, {"one": root}) as mount:
        before = here.call(tree, mount.scanned().path)
    assert len(before) == 9
    with Mount(here, {"one": root}) as mount:
        assert here.call(tree, mount.path) == before
        mount.scanned()
        assert here.call(tree, mount.path) == before


def _many(folder: Path, numbers: range, audio: bytes) -> None:
    """Real audio of one encoding, told apart by an ID3v1 tag."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        title = f"Song {number:05}".encode()
        tag = b"TAG" + title.ljust(30, b"\0") + b"Artist".ljust(30, b"\0") + b"Album".ljust(30, b"\0") + bytes(35)
        (folder / f"song {number:05}.mp3").write_bytes(audio + tag)


@pytest.mark.parametrize("who", ["ordinary"], indirect=True, scope="module")
def test_a_folder_of_5000_files_lists_completely_and_once_also_while_it_grows(here: Place) -> None:
    root = here.origins / "one"
    audio = make_audio(here.base / "a.mp3", seconds=0.1).read_bytes()
    _many(root / "heap", range(5000), audio)
    with Mount(here, {"one": root}, tree={"template": "$path"}) as mount:
        mount.scanned()
        heap = mount.path / "heap"
        first = here.call(names, heap)
        assert sorted(first) == [f"song {number:05}.mp3" for number in range(5000)]
        order = random.Random(1).sample(range(5000, 5300), 300)
        listings = []
        for start in range(0, 300, 30):
            for number in order[start : start + 30]:
                _many(root / "heap", range(number, number + 1), audio)
            listings.append(here.call(names, heap))

        def complete() -> bool:
            listings.append(here.call(names, heap))
            return len(listings[-1]) == 5300

        eventually(complete, "all files")
    for listing in listings:
        assert len(listing) == len(set(listing))
        assert set(listing) >= set(first)
