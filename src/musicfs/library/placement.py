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
from dataclasses import replace
from pathlib import PurePosixPath

from musicfs.catalog.rows import BY_TAGS, FOLLOWS, FolderFile, TreeEntry, make_key
from musicfs.library.albums import VARIOUS_ARTISTS, AlbumTrack, find_albums, number_tracks
from musicfs.tags.names import safe_filename, with_ending
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Album, Template, album_folder, track_fields
from musicfs.texts import fold as fold

NAMING_RULES = 2
"""The version of what makes names of tags and paths. A catalogue of another version is placed again as a whole."""

# Loose images in a folder of hundreds of albums belong to none of them.
_MAX_DIRS_FOR_A_SIDECAR = 8
# Folders of scans and the like beside an album's tracks belong to that album.
_EXTRAS = re.compile(
    r"(?:cd |full |hi-?res )?(?:scans?|artworks?|art|covers?|booklets?|images?|pics|extras?|lyrics|info|logs?|cue)",
    re.IGNORECASE,
)
_MORE_ENDING = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?|[A-Za-z0-9+]{2,4}")  # a language or a file's kind
_NO_ID = re.compile("[^0-9A-Za-z-]")


def folder_of(path: str, role: str) -> str:
    """The album folder that the file at `path` belongs to."""
    own = PurePosixPath(path)
    if role != "audio" and _EXTRAS.fullmatch(own.parent.name):
        own = own.parent.parent / own.name
    return album_folder(str(own))


def _is_tagged(tags: Tags) -> bool:
    """Whether the tags suffice to decide that two files are the same track."""
    return bool(tags.title and (tags.artist or tags.albumartist or tags.album))


def _tags_of(files: Sequence[FolderFile]) -> dict[int, Tags]:
    """The tags of the folder's tracks by content. Of several copies, the first by path says what only names say."""
    tracks: dict[int, AlbumTrack] = {}
    for file in files:
        if file.role == "audio" and file.tags is not None and file.content not in tracks:
            tracks[file.content] = AlbumTrack(file.path, Tags.from_json(json.loads(file.tags)))
    return {content: track.tags for content, track in number_tracks(tracks).items()}


def _traits(tags: Tags | None) -> tuple[str, ...]:
    """What tells two tracks apart that ask for one name; see `TreeEntry.ids` and `TreeEntry.seconds`."""
    if tags is None:
        return "", "", "", ""
    ids = (tags.musicbrainz_albumid, tags.musicbrainz_trackid, tags.musicbrainz_releasetrackid)
    return (*(_NO_ID.sub("", id or "").lower() for id in ids), str(tags.duration_s or ""))


class FolderPlacer:
    """Makes the entries of one album folder.

    Attributes:
        placed_once: The contents that one copy places for all copies in all folders: tracks with tags.
    """

    def __init__(self, template: Template, files: Sequence[FolderFile]) -> None:
        """template: how paths in the tree are made. files: the folder's replicas."""
        self._template = template
        self._files = files
        self._tags = _tags_of(files)
        self._by_path = template.uses("path")
        self._uses_disc = template.uses("disc")
        self._albums = {} if self._by_path else find_albums(self._tags)
        self.placed_once = set() if self._by_path else {c for c, tags in self._tags.items() if _is_tagged(tags)}

    def entries(self, homes: Mapping[int, int], elsewhere: Mapping[int, Sequence[TreeEntry]]) -> set[TreeEntry]:
        """The folder's entries.

        Args:
            homes: The replica that places each content of `placed_once`: the first one by path.
            elsewhere: The entries that other folders made for contents of `placed_once`.
        """
        tracks: dict[FolderFile, TreeEntry] = {}
        for file in self._files:
            if file.role == "audio" and homes.get(file.content, file.replica) == file.replica:
                tracks[file] = self._track(file)
        sidecars = [f for f in self._files if f.role != "audio"]
        return {*tracks.values(), *self._sidecars(sidecars, tracks, elsewhere)}

    def _track(self, file: FolderFile) -> TreeEntry:
        tags = self._tags.get(file.content)
        if self._by_path:
            return self._at_path(file, tags)
        if tags is None or file.content not in self.placed_once:
            return self._untagged(file, tags)
        album = self._albums.get(file.content, Album())
        if not tags.albumartist and tags.compilation:
            album = replace(album, artist=VARIOUS_ARTISTS)
        fields, disc_fields = (
            track_fields(tags, file.path, album, disc_prefix=several) for several in (False, not self._uses_disc)
        )
        parts = self._template.render(fields)
        # Rendering is half of what placing costs, and most tracks name no disc.
        disc_parts = parts if disc_fields == fields else self._template.render(disc_fields)
        artist = album.artist or tags.albumartist
        identity = (artist, tags.album, tags.disc, tags.track, tags.title, tags.artist, tags.format)
        label = (tags.track_label,) if tags.track is None and tags.track_label else ()
        key = make_key(BY_TAGS, (fold(str(value or "")) for value in (*identity, *label)), _traits(tags))
        discs = (tags.disc or 1) > 1 or (tags.disctotal or 1) > 1
        return TreeEntry(file.replica, "/".join(parts[:-1]), parts[-1], disc_parts[-1], discs, key, file.content)

    def _at_path(self, file: FolderFile, tags: Tags | None) -> TreeEntry:
        parts = self._render(file, tags)
        return self._plain(file, "/".join(parts[:-1]), parts[-1], tags)

    def _untagged(self, file: FolderFile, tags: Tags | None) -> TreeEntry:
        """An entry with the file's own name, in the folder that the template makes of what is known."""
        return self._plain(file, "/".join(self._render(file, tags)[:-1]), _own_name(file.path), tags)

    def _render(self, file: FolderFile, tags: Tags | None) -> tuple[str, ...]:
        known = tags or Tags.unknown(file.path)
        return self._template.render(track_fields(known, file.path, Album(), disc_prefix=False))

    @staticmethod
    def _plain(file: FolderFile, dir: str, name: str, tags: Tags | None) -> TreeEntry:
        key = make_key("path:", [fold(file.path)], _traits(tags))
        return TreeEntry(file.replica, dir, name, name, False, key, file.content)

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
        if self._by_path:
            yield self._at_path(file, None)
            return
        path = PurePosixPath(file.path)
        leader = self._leader(path, by_stem)
        if leader is not None:
            own, ending = leader
            # Lyrics, cue sheets and corrections of lossy files are found by players under their track's name.
            name, disc_name = (with_ending(n, ending) for n in (own.name, own.disc_name))
            key = make_key(FOLLOWS, [own.track, ending], [str(own.content)])
            yield TreeEntry(file.replica, own.dir, name, disc_name, own.discs, key, file.content)
            return
        dirs, inside = self._dirs_for(path, beside)
        for dir in dirs:
            where = "/".join(filter(None, (dir, *inside)))
            name = _own_name(file.path)
            yield TreeEntry(file.replica, where, name, name, False, make_key("beside:", [fold(name)], ()), file.content)

    @staticmethod
    def _leader(path: PurePosixPath, by_stem: Mapping[tuple[str, str], TreeEntry]) -> tuple[TreeEntry, str] | None:
        """The track that the file is named like, and the ending: of `Song.flac`, ".lrc", ".en.lrc" or ".flac.lrc"."""
        stem, ending = path.stem, path.suffix
        while True:
            own = by_stem.get((str(path.parent), fold(stem)))
            if own is not None:
                return own, ending.lower()
            stem, dot, more = stem.rpartition(".")
            if not stem or not _MORE_ENDING.fullmatch(more):
                return None
            ending = dot + more + ending

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
