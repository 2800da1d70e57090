"""How often a path is walked, and for how long what was found is believed: over a server that counts."""

from __future__ import annotations

import errno
import stat
from typing import cast

import pytest

from musicfs.origins.nfs.connection import Connection
from musicfs.origins.nfs.handle_cache import HandleCache
from musicfs.origins.nfs.rpc import Found
from musicfs.origins.nfs.xdr import NfsAttributes

_FOLDER, _FILE, _LINK = (
    NfsAttributes(stat.S_IFDIR, 0, 0),
    NfsAttributes(stat.S_IFREG, 1, 1),
    NfsAttributes(stat.S_IFLNK, 1, 1),
)


class FakeConnection:
    """A handle is the path that it was found at, after a version that `replace` changes. asked: the names looked up."""

    def __init__(self, *paths: str) -> None:
        self.asked: list[str] = []
        self._paths = dict.fromkeys(paths, _FILE)
        self._version = 0

    def replace(self, *paths: str) -> None:
        """By others; what was found before is stale."""
        self._paths = dict.fromkeys(paths, _FILE)
        self._version += 1

    def link(self, path: str) -> None:
        self._paths[path] = _LINK

    def root(self) -> bytes:
        return b"root"

    def walk(self, path: str) -> bytes:
        self.asked.append(f"walk {path}")
        return path.encode()

    def look_up(self, folder: bytes, name: str) -> Found:
        self.asked.append(name)
        return self._found(folder, name)

    def look_up_among(self, folder: bytes, name: str) -> tuple[Found, dict[str, Found]]:
        self.asked.append(f"{name} among others")
        above = "" if folder == b"root" else folder.decode().partition(" ")[2] + "/"
        names = {path.removeprefix(above) for path in self._paths if path.startswith(above)}
        return self._found(folder, name), {name: self._found(folder, name) for name in names if "/" not in name}

    def _found(self, folder: bytes, name: str) -> Found:
        path = name
        if folder != b"root":
            version, _, above = folder.decode().partition(" ")
            if int(version) != self._version:
                raise OSError(errno.ESTALE, "stale")
            path = f"{above}/{name}"
        about = self._paths.get(path)
        if about is None and not any(each.startswith(path + "/") for each in self._paths):
            raise OSError(errno.ENOENT, "not there")
        return f"{self._version} {path}".encode(), about or _FOLDER


class Walker:
    def __init__(self, *paths: str, most: int = 100) -> None:
        self.fake = FakeConnection(*paths)
        self.now = 0.0
        self.places = HandleCache(most, 60, lambda: self.now)

    def asked_for(self, path: str, *, afresh: bool = False) -> list[str]:
        """What finding it asks the server."""
        self.fake.asked.clear()
        handle, _ = self.places.find(cast(Connection, self.fake), path, afresh=afresh)
        assert handle.decode().endswith(path)
        return self.fake.asked


def test_a_folder_is_walked_to_once_and_two_files_make_its_others_known() -> None:
    walker = Walker(*(f"artist/album/{n}" for n in range(5)))
    assert walker.asked_for("artist/album/0") == ["artist", "album", "0"]
    assert walker.asked_for("artist/album/0") == []
    assert walker.asked_for("artist/album/1") == ["1 among others"]
    assert [walker.asked_for(f"artist/album/{n}") for n in range(5)] == [[]] * 5


def test_names_that_a_full_answer_left_out_are_looked_up_one_by_one() -> None:
    walker = Walker("a/0", "a/1")
    walker.asked_for("a/0")
    walker.asked_for("a/1")
    walker.fake._paths |= {"a/2": _FILE, "a/3": _FILE}
    assert walker.asked_for("a/2") == ["2"]
    assert walker.asked_for("a/3") == ["3"]


def test_nothing_is_believed_for_longer_than_a_minute_after_the_walk_from_the_root() -> None:
    walker = Walker("a/0", "a/1")
    walker.asked_for("a/0")
    walker.now = 59
    walker.asked_for("a/1")
    walker.now = 61
    assert walker.asked_for("a/1") == ["a", "1"]


def test_what_has_gone_stale_is_walked_to_from_the_root() -> None:
    walker = Walker("a/b/0", "a/b/1")
    walker.asked_for("a/b/0")
    walker.fake.replace("a/b/0", "a/b/1")
    assert walker.asked_for("a/b/1")[-3:] == ["a", "b", "1"]
    assert walker.asked_for("a/b/1") == []


def test_what_is_missing_is_missing_after_a_walk_from_the_root() -> None:
    walker = Walker("a/0")
    walker.asked_for("a/0")
    walker.fake.replace("b/0")
    with pytest.raises(OSError, match="not there"):
        walker.asked_for("a/1")
    assert walker.fake.asked[-1] == "a"


def test_what_was_found_is_not_believed_when_asked_afresh_or_forgotten() -> None:
    walker = Walker("a/0")
    walker.asked_for("a/0")
    assert walker.asked_for("a/0", afresh=True)[0] == "a"
    walker.places.forget(cast(Connection, walker.fake), "a/0")
    assert walker.asked_for("a/0") == ["a", "0"]


def test_links_are_left_to_the_library_and_not_remembered() -> None:
    walker = Walker("a/0")
    walker.fake.link("a/1")
    assert walker.asked_for("a/1") == ["a", "1", "walk /a/1"]
    walker.asked_for("a/0")
    assert walker.asked_for("a/1") == ["1", "walk /a/1"]


def test_no_more_is_kept_than_allowed_and_the_folder_in_use_stays() -> None:
    walker = Walker(*(f"a/{n}" for n in range(9)), *(f"b/{n}" for n in range(9)), most=3)
    for n in range(9):
        walker.asked_for(f"a/{n}")
    assert len(walker.places._known) == 3
    walker.asked_for("b/0")
    assert walker.asked_for("b/0") == []
    assert walker.asked_for("a/0")[0] == "a"
