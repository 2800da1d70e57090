"""Parses a bucket's listing: pages of keys as the server writes them, and the files of an origin in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import Element

from musicfs.model import Stat, ns_of
from musicfs.origin import ScanObserver
from musicfs.origins.bounds import is_in_reach, is_usable
from musicfs.origins.records import read_records
from musicfs.origins.s3.spellings import unescaped
from musicfs.problems import Problem, Reason

PAGE = 1000
"""Keys in a page: the most that a server may send."""
_MAX_TOKEN = 8 << 10
_SIZE = re.compile("[0-9]{1,18}")
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes whose objects must be restored before they can be read."""
_MARK = "\ufffd"
_NO_XML = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));"
)
"""Control characters and references to them."""
_HELD_MOST = 10_000
_ALL_HELD_MOST = 50_000


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to ListObjectsV2, or to the older ListObjects by a server that knows no other.

    entries: of whole keys, in their order; a Problem stands for a key that is left out. following: the query's
    parameters for the next page, None at the end.
    """

    entries: Sequence[Stat | Problem]
    following: Mapping[str, str] | None


def parse_page(body: bytes, most: int = PAGE) -> Page:
    """Parses a page. The time grows with the body: call it in a thread.

    most: keys that the request asked for. Raises ValueError when the answer is no valid listing of so many.
    """
    try:
        root, listed = _parsed(body, most)
    except ValueError:
        # One key that XML can't hold must not cost all others.
        if (mended := _mended(body)) == body:
            raise
        root, listed = _parsed(mended, most)
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise ValueError(f"{root.tag!r} instead of a listing")
    escaped = root.findtext("{*}EncodingType") == "url"
    entries = [_entry(each, escaped) for each in listed]
    if not entries and root.find("{*}CommonPrefixes") is not None:
        raise ValueError("it names folders alone, although all keys were asked for")
    return Page(entries, _following(root, entries[-1].path if entries else ""))


def _parsed(body: bytes, most: int) -> tuple[Element, Sequence[Element]]:
    listed: list[Element] = []
    return read_records(body, "Contents", most, listed.append), listed


def _mended(body: bytes) -> bytes:
    """Returns the document with a mark in the place of whatever no XML may have: some servers write keys as they are,
    with control characters and bytes that are no UTF-8."""
    return _NO_XML.sub(_MARK.encode(), body).decode("utf-8", "replace").encode()


def _following(root: Element, last: str) -> Mapping[str, str] | None:
    """last: the page's last key, after which servers without tokens go on."""
    if root.findtext("{*}IsTruncated") != "true":
        return None
    token = root.findtext("{*}NextContinuationToken")
    if not token and not last:
        raise ValueError("more is to come, but there is no token for it")
    if token and len(token) > _MAX_TOKEN:
        raise ValueError("its token for the next page is too long")
    return {"continuation-token": token} if token else {"marker": last}


def _entry(each: Element, escaped: bool) -> Stat | Problem:
    key = each.findtext("{*}Key") or ""
    try:
        name = unescaped(key) if escaped else key
    except UnicodeDecodeError:
        return Problem(key, Reason.BAD_NAME, "it is no text, so no request could name it")
    if _MARK in key and not escaped:
        return Problem(name, Reason.BAD_NAME, "the server lists characters that its listing can't hold")
    size = each.findtext("{*}Size") or ""
    if not _SIZE.fullmatch(size):
        return Problem(name, Reason.BAD_SIZE, f"the server gives {size[:40]!r} as its size")
    kept = each.findtext("{*}StorageClass") or ""
    if kept in _ARCHIVES and not each.findtext("{*}RestoreStatus/{*}RestoreExpiryDate"):
        return Problem(name, Reason.ARCHIVED, f"its storage class is {kept}; restore it to play it")
    return Stat(name, int(size), _changed(each), bare_etag(each.findtext("{*}ETag")))


def _changed(each: Element) -> int:
    """Returns a time in whole seconds, in nanoseconds: some servers list fractions that their headers do not have."""
    try:
        return ns_of(datetime.fromisoformat((each.findtext("{*}LastModified") or "").strip()))
    except (ValueError, OverflowError):
        return 0


def bare_etag(etag: str | None) -> str | None:
    """Returns an ETag without its quotes, and without the mark of a weak one: a proxy may add that."""
    return etag.strip().removeprefix("W/").strip('"') if etag else None


def time_of(last_modified: str) -> int:
    """Returns the time of a header Last-Modified, in nanoseconds. Raises ValueError."""
    return ns_of(parsedate_to_datetime(last_modified))


def is_name(path: str) -> bool:
    """Whether a path below the origin's root is one that a file could have, on a disk too.

    Keys may be any text: "a//b", "../c", "/d"; and "folder/" marks an empty folder.
    """
    return is_in_reach(path) and all(map(is_usable, path.split("/")))


class Entered:
    """Asks an observer about the folders in which files are, from the outermost on, each once while keys are sorted.

    above: the folder that is scanned; it and those above it are not asked about.
    """

    def __init__(self, observer: ScanObserver, above: str) -> None:
        self._observer = observer
        self._above = above
        self._open: list[tuple[str, bool]] = []

    def wants(self, path: str) -> bool:
        """Whether the file or folder at `path` lies in folders that the observer wants."""
        folder = path.rpartition("/")[0]
        while self._open and not _is_within(folder, self._open[-1][0]):
            self._open.pop()
        known = self._open[-1][0] if self._open else self._above
        for end in (*(at for at, sign in enumerate(folder) if sign == "/"), len(folder)):
            if end > len(known) and (not self._open or self._open[-1][1]):
                self._open.append((folder[:end], self._observer.enters(folder[:end], None)))
        return not self._open or self._open[-1][1]


@dataclass(slots=True)
class Folders:
    """Puts the files of each folder together; keys in their order do not: a/1, a/b/2, a/3.

    Holds back the files of the folders that are still open: of a huge folder only its first ones, and of all folders
    together at most `_ALL_HELD_MOST`, which no collection of music reaches.
    """

    _open: list[tuple[str, list[Stat]]] = field(default_factory=list)
    _held: int = 0

    def add(self, stat: Stat) -> Iterator[Stat]:
        """Adds a file. Yields the files that no longer need to wait."""
        folder = stat.path.rpartition("/")[0]
        while self._open and not _is_within(folder, self._open[-1][0]):
            yield from self._close()
        if not self._open or self._open[-1][0] != folder:
            self._open.append((folder, []))
        files = self._open[-1][1]
        files.append(stat)
        self._held += 1
        if len(files) > _HELD_MOST:
            self._held -= len(files)
            yield from files
            files.clear()
        if self._held > _ALL_HELD_MOST:
            yield from self.rest()

    def rest(self) -> Iterator[Stat]:
        while self._open:
            yield from self._close()

    def _close(self) -> Iterator[Stat]:
        """Returns the files of the innermost folder, and closes it."""
        files = self._open.pop()[1]
        self._held -= len(files)
        return iter(files)


def _is_within(folder: str, outer: str) -> bool:
    return not outer or folder == outer or folder.startswith(outer + "/")
