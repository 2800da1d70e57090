"""Which of a folder's tracks are one album, and what the album's tracks say together where one of them says nothing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from musicfs.tags.numbers import NumberInName, label_width, number_in_name
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Album, disc_from_folder
from musicfs.texts import fold

VARIOUS_ARTISTS = "Various Artists"
_GUEST = re.compile(r"(?<!\s)\s+[(\[]?(?:feat\.?|ft\.?|featuring)\s.*$", re.IGNORECASE | re.DOTALL)
_JOINT = re.compile(r"\s*(?:[;,/&+]|(?<=\s)(?:and|with|vs\.?|x|\u00d7|meets|presents)(?=\s))\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AlbumTrack:
    """One track with the numbers that its file's name adds to its tags. path: at its origin."""

    path: str
    tags: Tags


def find_albums(tracks: Mapping[int, Tags]) -> dict[int, Album]:
    """The album of each track. tracks: of one folder, by content, so that a copy counts once.

    Tracks are of one album if they agree on its title, and on its artist or its MusicBrainz id. Tracks without a title
    of an album have in common only how wide their numbers are.
    """
    by_title: dict[str, list[int]] = defaultdict(list)
    untitled: list[int] = []
    for content, track in sorted(tracks.items()):
        if track.album:
            by_title[fold(track.album)].append(content)
        else:
            untitled.append(content)
    albums: dict[int, Album] = {}
    if untitled:
        common = replace(_album([tracks[content] for content in untitled]), artist=None, year=None)
        albums.update(dict.fromkeys(untitled, common))
    for contents in by_title.values():
        for group in _releases(contents, tracks):
            album = _album([tracks[content] for content in group])
            albums.update(dict.fromkeys(group, album))
    return albums


def _releases(contents: Sequence[int], tracks: Mapping[int, Tags]) -> list[list[int]]:
    """The tracks under one title, by release. What names no id or no artist joins the one release that it fits."""
    by_id: dict[str, list[int]] = defaultdict(list)
    by_artist: dict[str, list[int]] = defaultdict(list)
    artists: dict[str, set[str]] = defaultdict(set)
    for content in contents:
        tags = tracks[content]
        artist = fold(tags.albumartist or "")
        if tags.musicbrainz_albumid:
            id = tags.musicbrainz_albumid.lower()
            by_id[id].append(content)
            artists[id].add(artist)
        else:
            by_artist[artist].append(content)
    for artist, group in list(by_artist.items()):
        fits = [id for id in by_id if not artist or artist in artists[id]]
        if len(fits) == 1:
            by_id[fits[0]] += group
            del by_artist[artist]
    named = [artist for artist in by_artist if artist]
    if len(named) == 1 and not by_id and "" in by_artist:
        by_artist[named[0]] += by_artist.pop("")
    return [*by_id.values(), *by_artist.values()]


def _album(tracks: Sequence[Tags]) -> Album:
    labels = [t.track_label for t in tracks if t.track is None and t.track_label]
    year = _common(t.year for t in tracks if t.year)
    greatest_track = max((max(t.track or 0, t.tracktotal or 0) for t in tracks), default=0)
    greatest_disc = max((max(t.disc or 0, t.disctotal or 0) for t in tracks), default=0)
    return Album(
        title=_spelling(titles) if (titles := [t.album for t in tracks if t.album]) else None,
        artist=_album_artist(tracks),
        year=int(year) if year else None,
        track_width=max(2, len(str(greatest_track))),
        disc_width=len(str(greatest_disc)),
        label_width=max(map(label_width, labels), default=1),
    )


def _common(values: Iterable[int | str]) -> int | str | None:
    """The most frequent value; of equally frequent ones the greatest, so that the result never depends on order."""
    counts = Counter(values)
    return max(counts, key=lambda v: (counts[v], str(v))) if counts else None


def _spelling(names: Iterable[str]) -> str:
    """The name as most write it, of several names if need be: the one that most of them are, in its usual form."""
    counts = Counter(names)
    folded: Counter[str] = Counter()
    for name, count in counts.items():
        folded[fold(name)] += count
    leader = max(folded, key=lambda form: (folded[form], form))
    return max((name for name in counts if fold(name) == leader), key=lambda name: (counts[name], name))


def _album_artist(tracks: Sequence[Tags]) -> str | None:
    """The artist of an album; None: each track's own artist."""
    named = [t.albumartist for t in tracks if t.albumartist]
    if named:
        return _spelling(named)
    if any(t.compilation for t in tracks):
        return VARIOUS_ARTISTS
    artists = [t.artist for t in tracks if t.artist]
    if not artists:
        return None
    if len(set(map(fold, artists))) == 1:
        return _spelling(artists)
    leaders = set(map(fold, artists))

    def before_known(artist: str) -> str:
        """The start of the artist's name that is another track's artist, if what follows joins names."""
        for joint in _JOINT.finditer(artist):
            if fold(artist[: joint.start()]) in leaders:
                return artist[: joint.start()]
        return _main(artist)

    return _majority(artists, _main) or _majority(artists, before_known) or VARIOUS_ARTISTS


def _main(artist: str) -> str:
    """The first of several artists, without guests."""
    return _GUEST.sub("", artist.split("; ")[0])


def _majority(artists: Sequence[str], shorten: Callable[[str], str]) -> str | None:
    """The artist of more than half of the tracks, once names are shortened; None: there is none.

    A guest who is on all of the artist's tracks is none, and stays.
    """
    short = [shorten(artist) for artist in artists]
    counts = Counter(map(fold, short))
    leader, share = max(counts.items(), key=lambda item: (item[1], item[0]))
    if share * 2 <= len(artists):
        return None
    whole = [artist for artist, main in zip(artists, short, strict=True) if fold(main) == leader]
    if len(set(map(fold, whole))) == 1:
        return _spelling(whole)
    return _spelling(main for main in short if fold(main) == leader)


def number_tracks(tracks: Mapping[int, AlbumTrack]) -> dict[int, AlbumTrack]:
    """The tracks with the disc of their folder and the number of their file's name, where their tags have none."""
    with_discs = {content: _with_disc(track) for content, track in tracks.items()}
    together: dict[tuple[str, str, str], dict[int, AlbumTrack]] = defaultdict(dict)
    for content, track in with_discs.items():
        folder = track.path.rpartition("/")[0]
        together[folder, fold(track.tags.album or ""), track.tags.format][content] = track
    numbered: dict[int, AlbumTrack] = {}
    for group in together.values():
        numbered |= _numbered(group)
    return numbered


def _with_disc(track: AlbumTrack) -> AlbumTrack:
    if track.tags.disc is not None:
        return track
    disc = disc_from_folder(track.path)
    return track if disc is None else replace(track, tags=replace(track.tags, disc=disc))


def _numbered(group: Mapping[int, AlbumTrack]) -> dict[int, AlbumTrack]:
    """The tracks with the numbers of their files' names, unless two of them then have the same number."""
    numbers: dict[int, NumberInName] = {}
    for content, track in group.items():
        tags = track.tags
        if tags.track is None and tags.track_label is None and tags.title is not None:
            number = number_in_name(PurePosixPath(track.path).stem, tags.title, tags.artist)
            if number is not None:
                numbers[content] = number
    labels = sum(number.label is not None for number in numbers.values())
    if not numbers or (labels and labels < max(2, len(numbers))):
        return dict(group)
    # "203" is track 3 of disc 2, where all numbers of the disc begin with its own.
    with_disc = all(number.track and number.track // 100 == group[c].tags.disc for c, number in numbers.items())
    found = {
        content: replace(group[content], tags=_with_number(group[content].tags, number, with_disc=with_disc))
        for content, number in numbers.items()
    }
    all_tracks = {**group, **found}
    counts = Counter((t.tags.disc, t.tags.track, t.tags.track_label) for t in all_tracks.values())
    is_told = (counts[t.tags.disc, t.tags.track, t.tags.track_label] == 1 for t in found.values())
    return all_tracks if all(is_told) else dict(group)


def _with_number(tags: Tags, number: NumberInName, *, with_disc: bool) -> Tags:
    if number.track is None:
        return replace(tags, track_label=number.label)
    disc = tags.disc if tags.disc is not None else number.disc or None
    return replace(tags, disc=disc, track=number.track % 100 if with_disc else number.track)
