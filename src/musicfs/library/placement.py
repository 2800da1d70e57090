"""Where an album folder's files belong in the tree. Pure functions: from a folder's rows to entries.

What one file's tags leave open, its album decides: whose album it is when only the tracks name artists, and its year
when the tracks' years differ. An album here is what one folder, with its disc folders, holds under one album tag,
whichever origins have the files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from musicfs.catalog.database import storable
from musicfs.catalog.rows import BY_TAGS, FolderFile, TreeEntry
from musicfs.tags.names import safe_filename
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Template, album_folder, disc_from_folder, track_fields
from musicfs.texts import normalised

VARIOUS_ARTISTS = "Various Artists"
# Loose images in a folder of hundreds of albums belong to none of them.
_MAX_DIRS_FOR_A_SIDECAR = 8
# Folders of scans and the like beside an album's tracks belong to that album.
_EXTRAS = re.compile(
    r"(?:cd |full |hi-?res )?(?:scans?|artworks?|art|covers?|booklets?|images?|pics|extras?|lyrics|info|logs?|cue)",
    re.IGNORECASE,
)
_GUEST = re.compile(r"(?<!\s)\s+[(\[]?(?:feat\.?|ft\.?|featuring|with)\s.*$", re.IGNORECASE | re.DOTALL)


def fold(text: str) -> str:
    """The form in which two names are the same name to a person, and to a case-insensitive filesystem."""
    return normalised(text).casefold()


def folder_of(path: str, role: str) -> str:
    """The album folder that the file at `path` belongs to."""
    own = PurePosixPath(path)
    if role != "audio" and _EXTRAS.fullmatch(own.parent.name):
        own = own.parent.parent / own.name
    return album_folder(str(own))


@dataclass(frozen=True, slots=True)
class _AlbumTags:
    """What an album's tracks agree on."""

    artist: str | None
    year: int | None


def _common(values: Iterable[int | str]) -> int | str | None:
    """The most frequent value; of equally frequent ones the greatest, so that the result never depends on order."""
    counts = Counter(values)
    return max(counts, key=lambda v: (counts[v], str(v))) if counts else None


def _album_artist(tracks: Sequence[Tags]) -> str | None:
    """The album artist of tracks whose tags name none; None: each track's own artist."""
    named = [t.albumartist for t in tracks if t.albumartist]
    if named:
        return str(_common(named))
    if any(t.compilation for t in tracks):
        return VARIOUS_ARTISTS
    artists = [_GUEST.sub("", t.artist) for t in tracks if t.artist]
    if not artists:
        return None
    counts = Counter(map(fold, artists))
    leader, share = max(counts.items(), key=lambda item: (item[1], item[0]))
    if len(counts) > 1 and share * 2 <= len(artists):
        return VARIOUS_ARTISTS
    return min(a for a in artists if fold(a) == leader)


def _albums(files: Mapping[int, Tags]) -> dict[str, _AlbumTags]:
    """The albums of one folder, by folded title. files: tags by content, so that a copy counts once."""
    groups: dict[str, list[Tags]] = {}
    for tags in files.values():
        if tags.album:
            groups.setdefault(fold(tags.album), []).append(tags)
    albums = {}
    for title, tracks in groups.items():
        year = _common(t.year for t in tracks if t.year)
        albums[title] = _AlbumTags(_album_artist(tracks), int(year) if year else None)
    return albums


def _is_tagged(tags: Tags) -> bool:
    """Whether the tags suffice to decide that two files are the same track."""
    return bool(tags.title and (tags.artist or tags.albumartist or tags.album))


def _tags_of(file: FolderFile) -> Tags:
    assert file.tags is not None
    tags = Tags.from_json(json.loads(file.tags))
    return tags if tags.disc is not None else replace(tags, disc=disc_from_folder(file.path))


class FolderPlacer:
    """Makes the entries of one album folder.

    Attributes:
        placed_once: The contents that one copy places for all copies in all folders: tracks with tags.
    """

    def __init__(self, template: Template, files: Sequence[FolderFile]) -> None:
        """template: how paths in the tree are made. files: the folder's replicas."""
        self._template = template
        self._files = files
        self._tags = {f.content: _tags_of(f) for f in files if f.role == "audio" and f.tags is not None}
        self.placed_once = {
            content for content, tags in self._tags.items() if not template.uses("path") and _is_tagged(tags)
        }

    def entries(self, homes: Mapping[int, int], elsewhere: Mapping[int, Sequence[TreeEntry]]) -> set[TreeEntry]:
        """The folder's entries.

        Args:
            homes: The replica that places each content of `placed_once`: the first one by path.
            elsewhere: The entries that other folders made for contents of `placed_once`.
        """
        albums = _albums(self._tags)
        tracks: dict[FolderFile, TreeEntry] = {}
        for file in self._files:
            if file.role == "audio" and homes.get(file.content, file.replica) == file.replica:
                tracks[file] = self._track(file, albums)
        sidecars = [f for f in self._files if f.role != "audio"]
        return {*tracks.values(), *self._sidecars(sidecars, tracks, elsewhere)}

    def _track(self, file: FolderFile, albums: Mapping[str, _AlbumTags]) -> TreeEntry:
        tags = self._tags.get(file.content)
        if self._template.uses("path"):
            return self._by_path(file, tags)
        if tags is None or file.content not in self.placed_once:
            return self._untagged(file, tags)
        album = albums.get(fold(tags.album or ""), _AlbumTags(None, tags.year))
        artist = tags.albumartist or (VARIOUS_ARTISTS if tags.compilation else album.artist)
        fields, disc_fields = (
            track_fields(tags, file.path, albumartist=artist, year=album.year, disc_prefix=several)
            for several in (False, not self._template.uses("disc"))
        )
        parts = self._template.render(fields)
        # Rendering is half of what placing costs, and most tracks name no disc.
        disc_parts = parts if disc_fields == fields else self._template.render(disc_fields)
        identity = (artist, tags.album, tags.disc, tags.track, tags.title, tags.artist, tags.format)
        key = BY_TAGS + storable("\0".join(fold(str(value or "")) for value in identity))
        discs = (tags.disc or 1) > 1 or (tags.disctotal or 1) > 1
        return TreeEntry(file.replica, "/".join(parts[:-1]), parts[-1], disc_parts[-1], discs, key, file.content)

    def _by_path(self, file: FolderFile, tags: Tags | None) -> TreeEntry:
        parts = self._render(file, tags)
        return self._plain(file, "/".join(parts[:-1]), parts[-1])

    def _untagged(self, file: FolderFile, tags: Tags | None) -> TreeEntry:
        """An entry with the file's own name, in the folder that the template makes of what is known."""
        return self._plain(file, "/".join(self._render(file, tags)[:-1]), _own_name(file.path))

    def _render(self, file: FolderFile, tags: Tags | None) -> tuple[str, ...]:
        known = tags or Tags.unknown(file.path)
        return self._template.render(track_fields(known, file.path, albumartist=None, year=None, disc_prefix=False))

    @staticmethod
    def _plain(file: FolderFile, dir: str, name: str) -> TreeEntry:
        return TreeEntry(file.replica, dir, name, name, False, "path:" + storable(fold(file.path)), file.content)

    def _sidecars(
        self,
        sidecars: Sequence[FolderFile],
        tracks: Mapping[FolderFile, TreeEntry],
        elsewhere: Mapping[int, Sequence[TreeEntry]],
    ) -> Iterable[TreeEntry]:
        if not sidecars:
            return
        beside: dict[str, list[TreeEntry]] = {}
        by_stem: dict[tuple[str, str], TreeEntry] = {}
        for file in self._files:
            if file.role == "audio":
                for entry in [tracks[file]] if file in tracks else elsewhere.get(file.content, ()):
                    path = PurePosixPath(file.path)
                    beside.setdefault(str(path.parent), []).append(entry)
                    by_stem.setdefault((str(path.parent), fold(path.stem)), entry)
        for file in sidecars:
            yield from self._sidecar(file, beside, by_stem)

    def _sidecar(
        self,
        file: FolderFile,
        beside: Mapping[str, Sequence[TreeEntry]],
        by_stem: Mapping[tuple[str, str], TreeEntry],
    ) -> Iterable[TreeEntry]:
        if self._template.uses("path"):
            yield self._by_path(file, None)
            return
        path = PurePosixPath(file.path)
        own = by_stem.get((str(path.parent), fold(path.stem)))
        if own is not None and not own.key.startswith("path:"):
            # Lyrics and cue sheets are found by players under their track's name.
            extension = path.suffix[1:].lower()
            name, disc_name = (safe_filename(PurePosixPath(n).stem, extension) for n in (own.name, own.disc_name))
            key = f"of:{own.key}.{extension}"
            yield TreeEntry(file.replica, own.dir, name, disc_name, own.discs, key, file.content)
            return
        dirs, inside = self._dirs_for(path, beside)
        for dir in dirs:
            where = "/".join(filter(None, (dir, *inside)))
            name = _own_name(file.path)
            yield TreeEntry(file.replica, where, name, name, False, "beside:" + fold(name), file.content)

    @staticmethod
    def _dirs_for(path: PurePosixPath, beside: Mapping[str, Sequence[TreeEntry]]) -> tuple[list[str], tuple[str, ...]]:
        """The tree's directories that a sidecar belongs to, and the subfolder that it keeps ("Scans") in there."""
        folder, inside = str(path.parent), ()  # type: tuple[str, tuple[str, ...]]
        entries = list(beside.get(folder, ()))
        if not entries:
            prefix = "" if folder == "." else folder + "/"
            entries = [e for other, found in beside.items() if other.startswith(prefix) for e in found]
        if not entries and folder != ".":
            parent = str(path.parent.parent)
            entries, inside = list(beside.get(parent, ())), (safe_filename(path.parent.name, ""),)
        dirs = Counter(e.dir for e in entries)
        if len(dirs) > _MAX_DIRS_FOR_A_SIDECAR:
            return [], inside
        return sorted(dirs), inside


def _own_name(path: str) -> str:
    own = PurePosixPath(path)
    return safe_filename(own.stem, own.suffix[1:])
