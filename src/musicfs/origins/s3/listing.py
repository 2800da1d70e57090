"""What a bucket lists: pages of keys as the server writes them, and from them the files of an origin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from musicfs.model import Stat, ns_of
from musicfs.origins.listing import is_skipped

_HELD_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to ListObjectsV2. following: the token of the next page, None at the end."""

    entries: Sequence[Stat]
    following: str | None


def parse_page(body: bytes) -> Page:
    """The page, with whole keys for paths. Raises ValueError when the answer is no sound listing."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise ValueError(f"{root.tag!r} instead of a listing")
    escaped = root.findtext("{*}EncodingType") == "url"
    entries = [stat for each in root.iterfind("{*}Contents") if (stat := _entry(each, escaped)) is not None]
    following = root.findtext("{*}NextContinuationToken")
    if root.findtext("{*}IsTruncated") != "true":
        return Page(entries, None)
    if not following:
        raise ValueError("more is to come, but there is no token for it")
    return Page(entries, following)


def _entry(each: ElementTree.Element, escaped: bool) -> Stat | None:
    """None for a key that is no text, and so can't be asked for by any name that we could give it."""
    key = each.findtext("{*}Key") or ""
    try:
        name = unquote_plus(key, errors="strict") if escaped else key
    except UnicodeDecodeError:
        return None
    # Whole seconds, for some servers list fractions that their headers do not have.
    changed = ns_of(datetime.fromisoformat(each.findtext("{*}LastModified") or ""))
    size = int(each.findtext("{*}Size") or "")
    return Stat(name, size, changed, bare_etag(each.findtext("{*}ETag")))


def error_code(body: bytes) -> str:
    """The code of an error's answer, such as NoSuchKey; "" when it has none."""
    try:
        return ElementTree.fromstring(body).findtext("{*}Code") or ""
    except ElementTree.ParseError:
        return ""


def bare_etag(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None


def time_of(last_modified: str) -> int:
    """The header Last-Modified in nanoseconds. Raises ValueError."""
    return ns_of(parsedate_to_datetime(last_modified))


def is_name(path: str) -> bool:
    """Whether a path below the origin's root is one that a file could have, on a disk too.

    Keys may be any text: "a//b", "../c", "/d"; and "folder/" marks an empty folder.
    """
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def is_shown(path: str) -> bool:
    return is_name(path) and not any(map(is_skipped, path.split("/")[:-1]))


@dataclass(slots=True)
class Folders:
    """Puts the files of each folder together, which keys in their order are not: a/1, a/b/2, a/3.

    Holds back the files of the folders that are still open, and of a huge folder only its first ones.
    """

    _open: list[tuple[str, list[Stat]]] = field(default_factory=list)

    def add(self, stat: Stat) -> Iterator[Stat]:
        """The files that need not wait any more."""
        folder = stat.path.rpartition("/")[0]
        while self._open and not _is_within(folder, self._open[-1][0]):
            yield from self._open.pop()[1]
        if not self._open or self._open[-1][0] != folder:
            self._open.append((folder, []))
        files = self._open[-1][1]
        files.append(stat)
        if len(files) > _HELD_MOST:
            yield from files
            files.clear()

    def rest(self) -> Iterator[Stat]:
        while self._open:
            yield from self._open.pop()[1]


def _is_within(folder: str, outer: str) -> bool:
    return not outer or folder == outer or folder.startswith(outer + "/")
