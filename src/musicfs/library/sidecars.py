"""Where covers, lyrics, scans and the like belong in the tree: beside the music that they belong to at their origin.

A file that is named like a track follows that track. Any other belongs to the tracks beside it; where there are none,
to the deepest folder of the tree that holds all the music below its own folder; and scans to the album above them.
Playlists that belong to no album have a folder of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from musicfs.catalog.rows import FOLLOWS, FolderFile, PlacedTrack, TreeEntry, make_key
from musicfs.library.references import PLAYLISTS
from musicfs.tags.discs import disc_from_folder
from musicfs.tags.names import safe_component, safe_filename, with_ending
from musicfs.tags.templates import Template
from musicfs.texts import fold

# Loose images in a folder of hundreds of albums belong to none of them.
_MAX_DIRS = 8
# Folders of scans and the like beside an album's tracks belong to that album.
_EXTRAS = frozenset((
    "scan", "scans", "artwork", "artworks", "art", "cover", "covers", "booklet", "booklets", "image", "images", "pics",
    "extra", "extras", "lyrics", "info", "log", "logs", "cue", "proof", "inlay", "inserts",
))  # fmt: skip
_OF_EXTRAS = frozenset((
    "cd", "dvd", "lp", "vinyl", "album", "disc", "front", "back", "full", "digital", "eac", "rip", "hq", "hi", "res",
    "hires", "high", "low", "quality", "resolution", "dpi", "jpg", "png", "tif", "tiff", "pdf", "and",
))  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_LONGEST_EXTRAS = 60  # characters
_MORE_ENDING = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?|[A-Za-z0-9+]{2,4}")  # a language or a file's kind
_NEEDS = {".wvc": ".wv"}
"""Kinds of files that are of use to one kind of track only."""
_PICTURES = frozenset((".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp"))
_PLAYLISTS = "Playlists"
"""The folder of the tree for playlists that belong to no album."""
_SMALL = re.compile(r"albumart(?:_\{[^}]*\}_)?small\.jpe?g", re.IGNORECASE)

# Of files that ask for one name in a folder of the tree, the one with the least rank gets it.
_OF_THE_ALBUM, _BESIDE, _OF_A_DISC, _ABOVE = range(4)


def is_extras_folder(name: str) -> bool:
    """Whether a folder of this name, such as `Booklet Scans (HQ)`, holds scans and the like of the album above it."""
    if len(name) > _LONGEST_EXTRAS:
        return False
    words = set(_WORD.findall(name.lower()))
    return not words.isdisjoint(_EXTRAS) and words <= _EXTRAS | _OF_EXTRAS


def anchors(folder: str) -> Iterator[str]:
    """The folder, and the folders above it whose music its files may belong to."""
    yield folder
    path = folder
    while path:
        above, _, name = path.rpartition("/")
        if is_extras_folder(name) or disc_from_folder(f"{path}/") is not None:
            yield above
        path = above


@dataclass(frozen=True, slots=True)
class _SidecarPlace:
    """dirs: of the tree. inside: the subfolder that the files keep in there, such as "Scans"."""

    dirs: tuple[str, ...]
    rank: int
    inside: tuple[str, ...] = ()


class SidecarPlacer:
    """Makes the entries of one album folder's sidecars."""

    def __init__(
        self,
        template: Template,
        top: str,
        tracks: Iterable[tuple[FolderFile, TreeEntry]],
        below: Callable[[str], Iterable[PlacedTrack]] | None = None,
    ) -> None:
        """
        Args:
            template: How paths in the tree are made.
            top: The album folder.
            tracks: The folder's tracks with their entries, which may be those of copies elsewhere.
            below: The placed tracks in and below any folder; None: those in `tracks`.
        """
        self._template = template
        self._top = top
        self._below = below or self._tracks_below
        self._beside: dict[str, list[PlacedTrack]] = defaultdict(list)
        self._named: dict[tuple[str, str], list[tuple[str, TreeEntry]]] = defaultdict(list)
        self._places: dict[str, _SidecarPlace | None] = {}
        for file, entry in tracks:
            folder, stem, suffix = _split(file.path)
            self._beside[folder].append(PlacedTrack(folder, entry.dir, entry.album))
            self._named[folder, fold(stem)].append((suffix.lower(), entry))

    def entries(self, files: Sequence[FolderFile]) -> Mapping[FolderFile, list[TreeEntry]]:
        """The entries of each file; none where no music is near, or where another picture is better."""
        with_pictures = set()
        for file in files:
            folder, _, suffix = _split(file.path)
            if suffix.lower() in _PICTURES and not _is_small(file.path):
                with_pictures.add(folder)
        return {
            file: [] if _is_small(file.path) and _split(file.path)[0] in with_pictures else [*self._entries(file)]
            for file in files
        }

    def _entries(self, file: FolderFile) -> Iterator[TreeEntry]:
        folder, stem, suffix = _split(file.path)
        leaders, ending = self._leaders(folder, stem, suffix.lower())
        if leaders:
            for own in {self._template.folded(entry.dir): entry for entry in reversed(leaders)}.values():
                # Players look for lyrics, cue sheets and corrections of lossy files under their track's name.
                name, disc_name = (with_ending(n, ending) for n in (own.name, own.disc_name))
                key = make_key(FOLLOWS, [own.track, ending], [str(own.content)])
                yield TreeEntry(file.replica, own.dir, name, disc_name, own.discs, key, file.content)
            return
        if folder not in self._places:
            self._places[folder] = self._place(folder)
        place = self._places[folder]
        name = safe_filename(stem, suffix[1:])
        if suffix[1:].lower() in PLAYLISTS and (place is None or (not folder and not self._beside.get(folder))):
            key = make_key("path:", [fold(file.path)], ())
            yield TreeEntry(file.replica, _PLAYLISTS, name, name, False, key, file.content)
            return
        for dir in place.dirs if place else ():
            where = "/".join(filter(None, (dir, *place.inside))) if place else dir
            disc = folder if place and place.rank == _OF_A_DISC else ""
            key = make_key("beside:", [str(place.rank if place else 0), fold(disc), fold(name)], ())
            yield TreeEntry(file.replica, where, name, name, False, key, file.content)

    def _leaders(self, folder: str, stem: str, ending: str) -> tuple[list[TreeEntry], str]:
        """The tracks that the file is named like, and the ending: of `Song.flac`, ".lrc", ".en.lrc" or ".flac.lrc"."""
        kind = _NEEDS.get(ending)
        while True:
            found = self._named.get((folder, fold(stem)), [])
            if found:
                fitting = [entry for suffix, entry in found if suffix == kind]
                return fitting or [entry for _, entry in found], ending
            stem, dot, more = stem.rpartition(".")
            if not stem or not _MORE_ENDING.fullmatch(more):
                return [], ""
            ending, kind = f"{dot}{more.lower()}{ending}", f".{more.lower()}"

    def _place(self, folder: str) -> _SidecarPlace | None:
        """Where the files of a folder belong; None: no music is near."""
        for above in anchors(folder):
            place = self._beside_tracks(above) or self._above_tracks(above)
            if place is not None:
                inside = filter(None, folder.removeprefix(above).split("/"))
                return _SidecarPlace(place.dirs, place.rank, tuple(safe_component(part) for part in inside))
        return None

    def _beside_tracks(self, folder: str) -> _SidecarPlace | None:
        dirs: dict[str, str] = {}
        for dir in {track.dir for track in self._beside.get(folder, ())}:
            self._add(dirs, dir)
        if not dirs or len(dirs) > _MAX_DIRS:
            return None
        return _SidecarPlace(tuple(sorted(dirs.values())), _BESIDE if folder == self._top else _OF_A_DISC)

    def _above_tracks(self, folder: str) -> _SidecarPlace | None:
        """The deepest folder of the tree with all the music below a folder; of one album, each folder that has it."""
        dirs: dict[str, str] = {}
        albums: set[str] = set()
        sources: list[str] | None = None
        common: list[str] | None = None
        constant = self._template.constant_folders
        for track in self._below(folder):
            parts = self._add(dirs, "/".join(track.dir.split("/")[: self._template.album_folders])).split("/")
            albums.add(track.album)
            source = track.folder.split("/")
            sources = source if sources is None else _shared(sources, source)
            common = parts if common is None else _shared(common, parts)
            if len(common) <= constant and (len(albums) > 1 or len(dirs) > _MAX_DIRS):
                return None  # nothing but the root holds all of it: no need to look at the rest
        rank = _OF_THE_ALBUM if sources is not None and "/".join(sources) == folder else _ABOVE
        if len(albums) == 1 and albums != {""} and len(dirs) <= _MAX_DIRS:
            return _SidecarPlace(tuple(sorted(dirs.values())), rank)
        if common is None or len(common) <= constant:
            return None
        return _SidecarPlace(("/".join(min(dirs.values()).split("/")[: len(common)]),), rank)

    def _add(self, dirs: dict[str, str], dir: str) -> str:
        """Adds a folder of the tree to those by what their spellings have in common. Returns what that is."""
        folded = self._template.folded(dir)
        dirs[folded] = min(dir, dirs.get(folded, dir))
        return folded

    def _tracks_below(self, folder: str) -> Iterator[PlacedTrack]:
        for other, tracks in self._beside.items():
            if not folder or other == folder or other.startswith(f"{folder}/"):
                yield from tracks


def _is_small(path: str) -> bool:
    return _SMALL.fullmatch(path.rpartition("/")[2]) is not None


def _split(path: str) -> tuple[str, str, str]:
    """(folder, name without its last ending, that ending with its dot)."""
    folder, _, name = path.rpartition("/")
    suffix = PurePosixPath(name).suffix
    return folder, name.removesuffix(suffix), suffix


def _shared(one: list[str], other: list[str]) -> list[str]:
    """The start that two lists have in common."""
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]
