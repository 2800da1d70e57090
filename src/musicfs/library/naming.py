"""The names of one directory's files: which contents are variants of a track, and what tells colliding names apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from blake3 import blake3

from musicfs.catalog.rows import Copy, TreeEntry
from musicfs.model import encode_path
from musicfs.tags.names import with_ending, with_suffix_tag
from musicfs.texts import fold

_SHORTEST_TAG = 6  # digits, of names that collide
_SAME_LENGTH_SECS = 3.0
"""Encoders and rippers add or cut some silence; more than this is other music."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One name of a directory and its contents, the shown one first."""

    name: str
    contents: tuple[int, ...]


def _tracks(entries: Sequence[TreeEntry], copies: Mapping[int, Sequence[Copy]]) -> list[tuple[str, list[int]]]:
    """The tracks that ask for one name, in order: (key, contents) of each.

    Entries with one key are variants of one track, unless they are other music, or some origin holds several of them
    under different paths: their owner means different files then, and the path becomes part of the key.
    """
    tracks: dict[str, set[int]] = {}
    for key, found in groupby(sorted(entries, key=lambda e: e.track), key=lambda e: e.track):
        for music, same in _by_music(list(found)):
            contents = {e.content for e in same}
            origins: set[str] = set()
            ambiguous = False
            for content in contents:
                own = {copy.origin for copy in copies[content]}
                ambiguous = ambiguous or bool(origins & own)
                origins |= own
            for content, told in _paths(contents, copies) if ambiguous else ((content, "") for content in contents):
                tracks.setdefault(key + music + told, set()).add(content)
    return sorted((track, sorted(contents)) for track, contents in tracks.items())


def _paths(contents: Iterable[int], copies: Mapping[int, Sequence[Copy]]) -> Iterator[tuple[int, str]]:
    """What tells contents of one track and one origin apart: their paths, exactly where only case or accents differ."""
    folded: dict[str, list[int]] = defaultdict(list)
    for content in contents:
        folded[fold(copies[content][0].path)].append(content)
    for path, same in folded.items():
        origins = [origin for content in same for origin in {copy.origin for copy in copies[content]}]
        is_exact = len(set(origins)) < len(origins)
        for content in same:
            yield content, f"\0{path}\0{copies[content][0].path}" if is_exact else f"\0{path}"


def _by_music(entries: list[TreeEntry]) -> list[tuple[str, list[TreeEntry]]]:
    """The entries of one key by what they are, with what tells them apart ("" if they may all be the same music)."""
    groups = [("", entries)]
    if len({entry.content for entry in entries}) > 1:
        for number in range(len(entries[0].ids)):
            groups = [part for label, group in groups for part in _by_id(label, group, number)]
        groups = [part for label, group in groups for part in _by_length(label, group)]
    return groups


def _by_id(label: str, entries: list[TreeEntry], number: int) -> list[tuple[str, list[TreeEntry]]]:
    """Splits the entries by one of their MusicBrainz ids. Those without it may be any; they stay with the first."""
    by_id: dict[str, list[TreeEntry]] = defaultdict(list)
    for entry in entries:
        by_id[entry.ids[number]].append(entry)
    without = by_id.pop("", [])
    if len(by_id) < 2:
        return [(label, entries)]
    by_id[min(by_id)] += without
    return [(f"{label}\0{id}", group) for id, group in sorted(by_id.items())]


def _by_length(label: str, entries: list[TreeEntry]) -> list[tuple[str, list[TreeEntry]]]:
    """Splits the entries where their lengths differ. Those without one stay with the shortest."""
    groups: list[tuple[float, list[TreeEntry]]] = []
    for entry in sorted((e for e in entries if e.seconds), key=lambda e: e.seconds):
        if not groups or entry.seconds > groups[-1][0] + _SAME_LENGTH_SECS:
            groups.append((entry.seconds, []))
        groups[-1][1].append(entry)
    if len(groups) < 2:
        return [(label, entries)]
    groups[0][1].extend(e for e in entries if not e.seconds)
    return [(f"{label}\0{seconds:010.3f}", group) for seconds, group in groups]


def _rank(copies: Sequence[Copy]) -> tuple[bool, int, str, str]:
    return min((not c.reachable, c.priority, c.origin, c.path) for c in copies)


def _free_name(name: str, digest: str, taken: Collection[str], counters: dict[str, int]) -> str:
    """`name` with the shortest start of the digest that makes it unique, else with the digest and a number.

    Args:
        name: What the file asks for.
        digest: Of the file's key, in hex digits.
        taken: The folded names of the directory.
        counters: The next number to try, by folded name: so each of many names with one digest costs one step.
    """
    for length in range(_SHORTEST_TAG, len(digest) + 1):
        free = with_suffix_tag(name, digest[:length])
        if fold(free) not in taken:
            return free
    number = counters.get(fold(free), 2)
    while fold(numbered := with_suffix_tag(name, f"{digest}-{number}")) in taken:
        number += 1
    counters[fold(free)] = number + 1
    return numbered


class _DirectoryNames:
    """The names that one directory has given so far."""

    def __init__(self, copies: Mapping[int, Sequence[Copy]], directories: Iterable[str]) -> None:
        self.shown: list[Shown] = []
        self._copies = copies
        self._taken = {fold(name) for name in directories}
        self._counters: dict[str, int] = {}

    def give(self, entries: Iterable[TreeEntry], name_of: Callable[[TreeEntry], str]) -> None:
        """Names what the entries stand for. name_of: what each asks for."""
        asked = [(name_of(entry), entry) for entry in entries]
        # Of one track at two origins, one may have a narrower number: its album has fewer tracks there.
        widest: dict[str, str] = {}
        for name, entry in asked:
            if entry.is_by_tags:
                widest[entry.track] = max(name, widest.get(entry.track, name), key=lambda each: (len(each), each))
        wanted: dict[str, list[tuple[str, TreeEntry]]] = {}
        for own, entry in asked:
            name = widest.get(entry.track, own)
            wanted.setdefault(fold(name), []).append((name, entry))
        collided: list[tuple[str, str, list[int]]] = []
        for folded, askers in sorted(wanted.items()):
            name = min(name for name, _ in askers)
            for track, contents in _tracks([entry for _, entry in askers], self._copies):
                ranked = sorted(contents, key=lambda c: (_rank(self._copies[c]), c))
                if folded in self._taken:
                    collided.append((name, track, ranked))
                else:
                    self._show(name, ranked)
        for name, track, ranked in collided:
            digest = blake3(encode_path(track)).hexdigest()
            self._show(_free_name(name, digest, self._taken, self._counters), ranked)

    def _show(self, name: str, ranked: Sequence[int]) -> None:
        self._taken.add(fold(name))
        self.shown.append(Shown(name, tuple(ranked)))


def resolve_names(
    entries: Sequence[TreeEntry], copies: Mapping[int, Sequence[Copy]], directories: Iterable[str]
) -> list[Shown]:
    """The names of one directory's files, which differ in more than case and do not depend on the input's order.

    Of the files that ask for one name the first by key gets it; the others get a short tag made from their key. What
    follows a track, such as its lyrics, gets the name that the track got.

    Args:
        entries: What asks to be in the directory.
        copies: Of every content in it, at least one.
        directories: The names of its subdirectories, which no file gets.
    """
    several_discs = any(e.discs for e in entries)
    names = _DirectoryNames(copies, directories)
    there = [entry for entry in entries if entry.content in copies]

    def own(entry: TreeEntry) -> str:
        return entry.disc_name if several_discs else entry.name

    names.give((entry for entry in there if entry.leader is None), own)
    given = {content: shown.name for shown in reversed(names.shown) for content in shown.contents}

    def followed(entry: TreeEntry) -> str:
        leader = given.get(entry.leader or 0)
        return own(entry) if leader is None else with_ending(leader, entry.track.rpartition("\0")[2])

    names.give((entry for entry in there if entry.leader is not None), followed)
    return names.shown
