"""Where an album folder's files belong in the tree. Pure functions: from a folder's rows to entries.

What one file's tags leave open, its album decides: whose album it is when only the tracks name artists, and its year
when the tracks' years differ. An album here is what one folder, with its disc folders, holds under one album tag,
whichever origins have the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import PurePosixPath

from musicfs.catalog.rows import BY_TAGS, FolderFile, PlacedTrack, TreeEntry, make_key
from musicfs.library.albums import VARIOUS_ARTISTS, find_albums
from musicfs.library.sidecars import SidecarPlacer, is_extras_folder
from musicfs.library.track_numbers import AlbumTrack, number_tracks
from musicfs.tags.discs import album_folder
from musicfs.tags.names import safe_filename
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Album, Template, track_fields
from musicfs.texts import alike
from musicfs.texts import fold as fold

_NAMING_RULES = 3
"""The version of what makes names of tags and paths. A catalogue of another version is placed again as a whole."""
_NO_ID = re.compile("[^0-9A-Za-z-]")


def naming_of(template: str) -> str:
    """What names are made by: a catalogue that another value made is placed again."""
    return f"{template}\n{_NAMING_RULES}"


def folder_of(path: str, role: str) -> str:
    """The album folder that the file at `path` belongs to."""
    own = PurePosixPath(path)
    if role != "audio" and is_extras_folder(own.parent.name):
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

    @property
    def is_loose(self) -> bool:
        """Whether the folder holds sidecars and no music, so that these belong to music in other folders."""
        return not self._by_path and bool(self._files) and all(file.role != "audio" for file in self._files)

    def entries(
        self,
        homes: Mapping[int, int],
        elsewhere: Mapping[int, Sequence[TreeEntry]],
        below: Callable[[str], Iterable[PlacedTrack]] | None = None,
    ) -> set[TreeEntry]:
        """The folder's entries.

        Args:
            homes: The replica that places each content of `placed_once`: the first one by path.
            elsewhere: The entries that other folders made for contents of `placed_once`.
            below: The placed tracks in and below any folder; None: those of this folder.
        """
        tracks: dict[FolderFile, TreeEntry] = {}
        for file in self._files:
            if file.role == "audio" and homes.get(file.content, file.replica) == file.replica:
                tracks[file] = self._track(file)
        sidecars = [f for f in self._files if f.role != "audio"]
        if self._by_path:
            return {*tracks.values(), *(self._at_path(file, None) for file in sidecars)}
        if not sidecars:
            return set(tracks.values())
        known = [
            (file, entry)
            for file in self._files
            if file.role == "audio"
            for entry in ([tracks[file]] if file in tracks else elsewhere.get(file.content, ()))
        ]
        top = folder_of(sidecars[0].path, "sidecar")
        placed = SidecarPlacer(self._template, top, known, below).entries(sidecars)
        return {*tracks.values(), *chain.from_iterable(placed.values())}

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
        key = make_key(BY_TAGS, (alike(str(value or "")) for value in (*identity, *label)), _traits(tags))
        discs = (tags.disc or 1) > 1 or (tags.disctotal or 1) > 1 or album.discs > 1
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


def _own_name(path: str) -> str:
    own = PurePosixPath(path)
    return safe_filename(own.stem, own.suffix[1:])
