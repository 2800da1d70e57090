"""Which of an origin's files the names in a playlist, cue sheet or list of checksums stand for.

Such texts were written on other machines: with backslashes, drive letters, absolute paths and URLs, in an older
encoding, and of files that have since become FLAC. A name means the file at its path from the text's folder; else at
the longest end of its path that exists at the origin; else the only file of that name there.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import unquote

from musicfs.tags.checksum_lists import parse_ffp, parse_hashes, parse_sfv
from musicfs.tags.cue_sheets import parse_cue
from musicfs.tags.playlists import parse_m3u, parse_pls, parse_xspf
from musicfs.tags.tags import AUDIO_EXTENSIONS
from musicfs.tags.text_files import MAX_LINE, Notation, Parse, Pieces, Reference, decoded, encodings_of, references

PARSERS: Mapping[str, Parse] = {
    "cue": parse_cue, "m3u": parse_m3u, "m3u8": parse_m3u, "pls": parse_pls, "xspf": parse_xspf,
    "md5": parse_hashes, "sha1": parse_hashes, "sha256": parse_hashes, "sfv": parse_sfv, "ffp": parse_ffp,
}  # fmt: skip
"""By extension, in lower case."""
PLAYLISTS = frozenset(("m3u", "m3u8", "pls", "xspf"))

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,20}):/{0,3}")
_DRIVE = re.compile(r"/?[A-Za-z]:[/\\]")
_MAX_PARTS = 40
_MAX_FOLDERS = 500


class OriginFiles(Protocol):
    """The files of one origin. Paths are relative to its root, "/"-separated."""

    def existing(self, paths: Collection[str]) -> set[str]:
        """Returns those of the paths that are files."""
        ...

    def in_folder(self, folder: str) -> Iterable[str]:
        """Returns the names of the files in a folder."""
        ...

    def named(self, names: Collection[str]) -> Mapping[str, Collection[str]]:
        """Returns the paths of all files of these names, by name. Names are folded: see `folded`."""
        ...


@dataclass(frozen=True, slots=True)
class ResolvedText:
    """A text and what its names stand for.

    paths: of the files, by name. unresolved: how many of its names stand for no file; URLs elsewhere don't count.
    missing: the stems of the files that these names may mean, in every encoding that the text may be in.
    """

    pieces: Pieces
    paths: Mapping[str, str]
    unresolved: int
    missing: frozenset[str] = frozenset()


def folded(name: str) -> str:
    """Returns a name without what filesystems and systems change in it: letters' case and the form of accents."""
    return unicodedata.normalize("NFC", name.casefold())


def stem(path: str) -> str:
    """Returns the folded name of a file without its extension: what names that mean it have in common."""
    return _stem(folded(posixpath.basename(path)))


def resolve(data: bytes, extension: str, folder: str, files: OriginFiles) -> ResolvedText:
    """Finds the files that a text names.

    Args:
        data: The text, at most `MAX_TEXT` bytes.
        extension: Of its name; a key of PARSERS.
        folder: That it lies in, at its origin.
        files: Of its origin.
    """
    best = None
    missing: frozenset[str] = frozenset()
    tried = set()
    for encoding in encodings_of(data):
        text = decoded(data, encoding)
        if text is None or text in tried:
            continue
        tried.add(text)
        found = _resolve(PARSERS[extension](text), folder, files, any_type=extension == "cue")
        missing |= found.missing
        if best is None or found.unresolved < best.unresolved:
            best = found
        if best.unresolved == 0:
            return best
    best = best or ResolvedText((data.decode("utf-8", "surrogateescape"),), {}, 0)
    return replace(best, missing=missing)


def _resolve(pieces: Pieces, folder: str, files: OriginFiles, *, any_type: bool) -> ResolvedText:
    search = _Search(folder, files, any_type)
    wanted = {each.target: list(_candidates(each, folder)) for each in references(pieces)}
    wanted = {target: paths for target, paths in wanted.items() if paths}
    for step in (search.by_path, search.in_folders, search.by_name):
        step({target: paths for target, paths in wanted.items() if target not in search.found})
    unresolved = sum(each.target in wanted and each.target not in search.found for each in references(pieces))
    missing = (path for target, paths in wanted.items() if target not in search.found for path in paths)
    return ResolvedText(pieces, search.found, unresolved, frozenset(map(stem, missing)))


@dataclass(slots=True)
class _Search:
    """Looks for files, in steps that cost more and more. any_type: a name may have lost its file's extension."""

    folder: str
    files: OriginFiles
    any_type: bool
    found: dict[str, str] = field(default_factory=dict)

    def by_path(self, wanted: Mapping[str, list[str]]) -> None:
        existing = self.files.existing({path for paths in wanted.values() for path in paths})
        self._take(wanted, lambda path: path if path in existing else None)

    def in_folders(self, wanted: Mapping[str, list[str]]) -> None:
        """As `by_path`, whatever the case of the file's name, and for cue sheets whatever its extension."""
        folders: dict[str, dict[str, str]] = {}

        def find(path: str) -> str | None:
            folder, name = posixpath.split(path)
            if folder not in folders:
                if len(folders) >= _MAX_FOLDERS:  # no album has so many, and each one is a question
                    return None
                folders[folder] = self._by_folded_name(folder)
            key = folded(name)
            real = folders[folder].get(key) or folders[folder].get(_stem(key) if self.any_type else key)
            return posixpath.join(folder, real) if real else None

        self._take(wanted, find)

    def _by_folded_name(self, folder: str) -> dict[str, str]:
        names = sorted(self.files.in_folder(folder))
        stems = {_stem(folded(name)): name for name in names if _is_audio(name)} if self.any_type else {}
        return stems | {folded(name): name for name in names}

    def by_name(self, wanted: Mapping[str, list[str]]) -> None:
        keys = {folded(posixpath.basename(paths[0])) for paths in wanted.values()}
        if not keys:
            return
        named = self.files.named(keys)

        def only(path: str) -> str | None:
            paths = named.get(folded(posixpath.basename(path)), ())
            return next(iter(paths)) if len(paths) == 1 else None

        self._take(wanted, only)

    def _take(self, wanted: Mapping[str, list[str]], find: Callable[[str], str | None]) -> None:
        for target, paths in wanted.items():
            path = next((real for path in paths if (real := find(path)) is not None), None)
            if path is not None:
                self.found[target] = path


def _candidates(reference: Reference, folder: str) -> Iterator[str]:
    """Yields the paths at the origin that a name may mean, the likeliest first; none for a URL of something else."""
    for written in _spellings(reference):
        yield from _paths(written, folder)


def _spellings(reference: Reference) -> Iterator[str]:
    """Yields a name as a path with slashes, as it stands first."""
    target = reference.target
    if len(target) > MAX_LINE or "\0" in target:
        return
    scheme = _SCHEME.match(target)
    if scheme and not _DRIVE.match(target):
        if scheme[1].lower() == "file":
            yield "/" + unquote(target[scheme.end() :].removeprefix("localhost/"), errors="surrogateescape")
        return
    if reference.notation is Notation.URI:
        target = unquote(target, errors="surrogateescape")
    yield target
    if "\\" in target:
        yield target.replace("\\", "/")
    if "%" in target and reference.notation is not Notation.URI:
        yield unquote(target, errors="surrogateescape")


def _paths(written: str, folder: str) -> Iterator[str]:
    drive = _DRIVE.match(written)
    absolute = written[drive.end() - 1 :] if drive else written
    if not absolute.startswith("/"):
        path = posixpath.normpath(posixpath.join(folder, absolute))
        if not path.startswith("../") and path not in ("..", "."):
            yield path
    parts = [part for part in absolute.split("/") if part not in ("", ".", "..")][-_MAX_PARTS:]
    yield from ("/".join(parts[number:]) for number in range(len(parts)))
    if folder and len(parts) > 1:
        yield f"{folder}/{parts[-1]}"


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _is_audio(name: str) -> bool:
    return name.rpartition(".")[2].lower() in AUDIO_EXTENSIONS
