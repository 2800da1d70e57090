"""Which of a folder's tracks are one album, and what the album's tracks say together where one of them says nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from musicfs.tags.numbers import label_width
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Album
from musicfs.texts import alike, fold

VARIOUS_ARTISTS = "Various Artists"
_GUEST = re.compile(
    r"(?:(?<!\s)\s+[(\[]?|(?<!\s)[(\[])(?:(?:feat|ft)(?:\.|\s)|featuring\s).*$", re.IGNORECASE | re.DOTALL
)
_JOINT = re.compile(
    r"(?<!\s)\s*(?:[;,/&+|(\[\u00b7\u2022\u3001\uff06\uff0c]|(?<=\s)"
    r"(?:and|with|w/|vs\.?|x|\u00d7|meets|pres\.|presents|und|mit|et|avec|y|con|e|og|och|en)(?=\s))\s*",
    re.IGNORECASE,
)
_VARIOUS = frozenset(("va", "various", "variousartist", "variousartists"))
_MIN_ARTISTS = 3
_ARTICLE = re.compile(r"^the |, the$")
_ACCENTS = re.compile("[\u0300-\u036f]")


def find_albums(tracks: Mapping[int, Tags]) -> dict[int, Album]:
    """The album of each track. tracks: of one folder, by content, so that a copy counts once.

    Tracks are of one album if they agree on its title, and on its artist or its MusicBrainz id. Tracks without a title
    of an album have in common only how wide their numbers are.
    """
    by_title: dict[str, list[int]] = defaultdict(list)
    untitled: list[int] = []
    for content, track in sorted(tracks.items()):
        if track.album:
            by_title[alike(track.album)].append(content)
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
    shorten = _before_known(artist for content in contents if (artist := tracks[content].albumartist))
    for content in contents:
        tags = tracks[content]
        artist = _like_artist(shorten(tags.albumartist)) if tags.albumartist else ""
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
    unnamed = by_artist.pop("", [])
    if not by_id and _is_one_compilation([tracks[content] for group in by_artist.values() for content in group]):
        by_artist = {"": [content for group in by_artist.values() for content in group]}
    return [*by_id.values(), *by_artist.values(), *_by_numbers({content: tracks[content] for content in unnamed})]


def _is_one_compilation(tracks: Sequence[Tags]) -> bool:
    """Whether tracks of different album artists are one album: each has its own artist there, and the next number."""
    artists = {_like_artist(t.albumartist or "") for t in tracks}
    if len(artists) < _MIN_ARTISTS or any(fold(t.albumartist or "") != fold(t.artist or "") for t in tracks):
        return False
    return {(t.disc or 1, t.track) for t in tracks} == {(1, n) for n in range(1, len(tracks) + 1)}


def _by_numbers(tracks: Mapping[int, Tags]) -> list[list[int]]:
    """Splits tracks of which none names the album's artist by their own artists, if these are several albums.

    They are if numbers repeat, but none of one artist's, and no artist has a single track: two artists' "Greatest Hits"
    in one folder. The discs of a compilation whose tags do not say them have many artists with one track.
    """
    if not _repeats(tracks.values()) or any(t.compilation or not t.artist for t in tracks.values()):
        return [list(tracks)] if tracks else []
    shorten = _before_known([t.artist for t in tracks.values() if t.artist])
    by_artist: dict[str, list[int]] = defaultdict(list)
    for content, track in tracks.items():
        by_artist[fold(shorten(track.artist or ""))].append(content)
    parts = list(by_artist.values())
    if any(len(part) < 2 or _repeats(tracks[content] for content in part) for part in parts):
        return [list(tracks)]
    return parts


def _repeats(tracks: Iterable[Tags]) -> bool:
    counts = Counter((t.disc, t.track, t.format) for t in tracks if t.track is not None)
    return any(count > 1 for count in counts.values())


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
        discs=len({t.disc for t in tracks} - {None}),
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
    return min((name for name in counts if fold(name) == leader), key=lambda name: (-counts[name], name))


def _album_artist(tracks: Sequence[Tags]) -> str | None:
    """The artist of an album; None: each track's own artist."""
    named = [t.albumartist for t in tracks if t.albumartist]
    if named:
        return _spelling(named) if len(set(map(_like_artist, named))) == 1 else _agreed(named)
    if any(t.compilation for t in tracks):
        return VARIOUS_ARTISTS
    artists = [t.artist for t in tracks if t.artist]
    if not artists:
        return None
    return _spelling(artists) if len(set(map(fold, artists))) == 1 else _agreed(artists)


def _agreed(artists: Sequence[str]) -> str:
    """The artist that more than half of the tracks share, in one way or another to compare them."""
    before_known = _before_known(artists)
    return (
        _majority(artists, _main)
        or _majority(artists, before_known)
        or _majority(artists, before_known, _like_artist)
        or VARIOUS_ARTISTS
    )


def _main(artist: str) -> str:
    """The first of several artists, without guests."""
    return _GUEST.sub("", artist.split("; ")[0])


def _before_known(artists: Iterable[str]) -> Callable[[str], str]:
    """Returns what cuts a name to the start that is another track's artist, if what follows joins names."""
    known = set(map(fold, artists))

    def shorten(artist: str) -> str:
        for joint in _JOINT.finditer(artist):
            if fold(artist[: joint.start()]) in known:
                return artist[: joint.start()]
        return _main(artist)

    return shorten


def _like_artist(artist: str) -> str:
    """The form in which `The Beatles` and `Beatles, The`, or `Sigur Rós` and `Sigur Ros`, are one artist."""
    bare = _ARTICLE.sub("", _ACCENTS.sub("", unicodedata.normalize("NFKD", alike(artist))))
    letters = "".join(filter(str.isalnum, bare))
    return "variousartists" if letters in _VARIOUS else letters or alike(artist)


def _majority(artists: Sequence[str], shorten: Callable[[str], str], like: Callable[[str], str] = fold) -> str | None:
    """The artist of more than half of the tracks, once names are shortened; None: there is none.

    A guest who is on all of the artist's tracks is none, and stays.

    Args:
        artists: Of each track.
        shorten: Cuts guests off.
        like: The form in which two names are the same artist.
    """
    short = [shorten(artist) for artist in artists]
    counts = Counter(map(like, short))
    leader, share = max(counts.items(), key=lambda item: (item[1], item[0]))
    if share * 2 <= len(artists):
        return None
    whole = [artist for artist, main in zip(artists, short, strict=True) if like(main) == leader]
    if len(set(map(fold, whole))) == 1:
        return _spelling(whole)
    return _spelling(main for main in short if like(main) == leader)
