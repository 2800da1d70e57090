"""Parses a bucket's listing: pages of keys as the server writes them, and the files of an origin in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from musicfs.model import Stat, ns_of
from musicfs.origins.bounds import is_in_reach, is_usable
from musicfs.origins.ignored import is_skipped
from musicfs.origins.records import read_records

PAGE = 1000
"""Keys in a page: the most that a server may send."""
_MAX_TOKEN = 8 << 10
_HELD_MOST = 10_000
_ALL_HELD_MOST = 50_000


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to ListObjectsV2. following: the token of the next page, None at the end."""

    entries: Sequence[Stat]
    following: str | None


def parse_page(body: bytes, most: int = PAGE) -> Page:
    """Parses a page; its paths are whole keys. The time grows with the body: call it in a thread.

    most: keys that the request asked for. Raises ValueError when the answer is no valid listing of so many.
    """
    listed: list[Element] = []
    root = read_records(body, "Contents", most, listed.append)
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise ValueError(f"{root.tag!r} instead of a listing")
    escaped = root.findtext("{*}EncodingType") == "url"
    entries = [stat for each in listed if (stat := _entry(each, escaped)) is not None]
    following = root.findtext("{*}NextContinuationToken")
    if root.findtext("{*}IsTruncated") != "true":
        return Page(entries, None)
    if not following:
        raise ValueError("more is to come, but there is no token for it")
    if len(following) > _MAX_TOKEN:
        raise ValueError("its token for the next page is too long")
    return Page(entries, following)


def _entry(each: Element, escaped: bool) -> Stat | None:
    """Returns None for a key that is no text: no request could name it."""
    key = each.findtext("{*}Key") or ""
    try:
        name = unquote_plus(key, errors="strict") if escaped else key
    except UnicodeDecodeError:
        return None
    # Whole seconds: some servers list fractions that their headers do not have.
    changed = ns_of(datetime.fromisoformat(each.findtext("{*}LastModified") or ""))
    size = int(each.findtext("{*}Size") or "")
    return Stat(name, size, changed, bare_etag(each.findtext("{*}ETag")))


_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,80})</Code>")


def error_code(body: bytes) -> str:
    """Returns the code of an error's answer, such as NoSuchKey, or "". It is quick for any body and needs no thread."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def bare_etag(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None


def time_of(last_modified: str) -> int:
    """Returns the time of a header Last-Modified, in nanoseconds. Raises ValueError."""
    return ns_of(parsedate_to_datetime(last_modified))


def is_name(path: str) -> bool:
    """Whether a path below the origin's root is one that a file could have, on a disk too.

    Keys may be any text: "a//b", "../c", "/d"; and "folder/" marks an empty folder.
    """
    return is_in_reach(path) and all(map(is_usable, path.split("/")))


def is_shown(path: str) -> bool:
    return is_name(path) and not any(map(is_skipped, path.split("/")[:-1]))


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
