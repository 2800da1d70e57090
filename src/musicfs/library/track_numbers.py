"""The discs and numbers of a folder's tracks, where tags leave these to the names of albums, folders and files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from musicfs.tags.discs import disc_at_end, disc_from_folder
from musicfs.tags.numbers import NumberInName, number_in_name, numbers_after_common_start
from musicfs.tags.tags import Tags
from musicfs.texts import fold


@dataclass(frozen=True, slots=True)
class AlbumTrack:
    """One track with what names add to its tags. path: at its origin."""

    path: str
    tags: Tags


_PART = re.compile(r"(?:[^\W\d_]{1,12}[\s._-]{0,3})?0?([1-9]\d?)")
_Group = Mapping[int, AlbumTrack]


def number_tracks(tracks: Mapping[int, AlbumTrack]) -> dict[int, AlbumTrack]:
    """The tracks with the discs and numbers that only names say. tracks: of one album folder, by content."""
    groups: dict[tuple[str, str, str], dict[int, AlbumTrack]] = defaultdict(dict)
    for content, track in tracks.items():
        with_disc = _with_disc(track)
        folder = track.path.rpartition("/")[0]
        groups[folder, fold(with_disc.tags.album or ""), track.tags.format][content] = with_disc
    numbered: dict[int, AlbumTrack] = {}
    for group in groups.values():
        numbered |= _told_apart(_numbered(group))
    return numbered


def _with_disc(track: AlbumTrack) -> AlbumTrack:
    """The track with the disc that its folder is, or that the name of its album or folder ends with."""
    tags = track.tags
    named = disc_at_end(tags.album) if tags.album else None
    if named is not None and tags.disc in (None, named.disc):
        tags = replace(tags, album=named.album, disc=named.disc, disctitle=tags.disctitle or named.title)
    if tags.disc is None:
        tags = replace(tags, disc=_disc_of_folder(track.path, tags.album))
    return track if tags is track.tags else replace(track, tags=tags)


def _disc_of_folder(path: str, album: str | None) -> int | None:
    disc = disc_from_folder(path)
    if disc is not None or album is None:
        return disc
    above, _, name = path.rpartition("/")[0].rpartition("/")
    at_end = disc_at_end(name)
    if at_end is not None:
        return at_end.disc
    # "Box/2" and "Box/Part 2" are discs of the album "Box"; "Adele/25" and "Santana/Santana 3" are albums.
    part = None if fold(name).startswith(fold(album)) else _PART.fullmatch(name)
    return int(part[1]) if part is not None and fold(album) in fold(above.rpartition("/")[2]) else None


def _numbered(group: _Group) -> _Group:
    """The tracks with the numbers of their files' names, unless two of them then have the same number."""
    numbers = _numbers_in_names(group, lambda tags: tags.track is None and tags.track_label is None)
    labels = sum(number.label is not None for number in numbers.values())
    if not numbers or (labels and labels < max(2, len(numbers))):
        return group
    # "203" is track 3 of disc 2, where all numbers of the disc begin with its own.
    with_disc = all(number.track and number.track // 100 == group[c].tags.disc for c, number in numbers.items())
    found = {
        content: replace(group[content], tags=_with_number(group[content].tags, number, with_disc=with_disc))
        for content, number in numbers.items()
    }
    all_tracks = {**group, **found}
    counts = Counter(map(_place, all_tracks.values()))
    return all_tracks if all(counts[_place(track)] == 1 for track in found.values()) else group


def _told_apart(group: _Group) -> _Group:
    """The tracks with the discs or numbers of their files' names, if their tags number several discs alike."""
    if not _repeat(group.values()):
        return group
    numbers = _numbers_in_names(group, lambda tags: tags.disc is None and tags.track is not None)
    for give in (_disc_of, _number_of):
        given = dict(group)
        for content, number in numbers.items():
            tags = give(group[content].tags, number)
            if tags is not None:
                given[content] = replace(group[content], tags=tags)
        if not _repeat(given.values()):
            return given
    return group


def _disc_of(tags: Tags, number: NumberInName) -> Tags | None:
    """The tags with the disc of "1-03" or "103"; None: the name has another number than the tags, or no disc."""
    if number.track is None:
        return None
    if number.disc and number.track == tags.track:
        return replace(tags, disc=number.disc)
    disc, track = divmod(number.track, 100)
    return replace(tags, disc=disc) if disc and track == tags.track else None


def _number_of(tags: Tags, number: NumberInName) -> Tags | None:
    return None if number.track is None else replace(tags, track=number.track, disc=number.disc or None)


def _numbers_in_names(group: _Group, is_wanted: Callable[[Tags], bool]) -> dict[int, NumberInName]:
    """The numbers in the names of the wanted tracks: each by its own form, else all that are left by a common one."""
    numbers: dict[int, NumberInName] = {}
    left: dict[int, tuple[str, str]] = {}
    for content, track in group.items():
        tags = track.tags
        if tags.title is None or not is_wanted(tags):
            continue
        stem = PurePosixPath(track.path).stem
        number = number_in_name(stem, tags.title, tags.artist)
        if number is None:
            left[content] = stem, tags.title
        else:
            numbers[content] = number
    common = numbers_after_common_start(list(left.values()))
    return numbers | {content: NumberInName(None, track) for content, track in zip(left, common, strict=False)}


def _place(track: AlbumTrack) -> tuple[int | None, int | None, str | None]:
    return track.tags.disc, track.tags.track, track.tags.track_label


def _repeat(tracks: Iterable[AlbumTrack]) -> bool:
    counts = Counter(_place(track) for track in tracks if track.tags.track is not None)
    return any(count > 1 for count in counts.values())


def _with_number(tags: Tags, number: NumberInName, *, with_disc: bool) -> Tags:
    if number.track is None:
        return replace(tags, track_label=number.label)
    disc = tags.disc if tags.disc is not None else number.disc or None
    return replace(tags, disc=disc, track=number.track % 100 if with_disc else number.track)
