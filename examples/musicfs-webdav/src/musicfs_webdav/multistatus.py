"""What a server answers to PROPFIND (RFC 4918, 9.1): what lies in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from musicfs.model import ns_of
from musicfs.origins.records import read_records
from musicfs.problems import Reason

QUESTION = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>'
    b"<resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """path: on the server, from its root on, without a slash at its end. A folder has no size and no version.

    etag: without its quotes; None where the server has none, or a weak one. left_out: why it can't be shown, with a
    detail.
    """

    path: str
    is_folder: bool
    size: int = 0
    mtime_ns: int = 0
    etag: str | None = None
    left_out: tuple[Reason, str] | None = None


class TooManyEntries(ValueError):
    """A folder has more in it than is accepted."""


MAX = 50_000
"""Files and folders in one folder. The protocol has no pages, so that a listing of more than that is refused."""


def parse(body: bytes, *, whole: bool = True) -> list[Entry]:
    """What is answered, of at most MAX files and folders. Computes for as long as the body is large, so it is for a
    thread.

    whole: the answer must be complete; otherwise it may have been cut off. Raises ValueError for what can't be
    understood.
    """
    found: list[Entry] = []

    def take(response: Element) -> None:
        found.extend(_entries(response))
        if len(found) > MAX:
            raise TooManyEntries(f"it has more than {MAX} entries")

    root = read_records(body, "response", MAX + 2, take, whole=whole)
    if root.tag != "{DAV:}multistatus":
        raise ValueError(f"{root.tag!r} instead of a listing")
    return found


def _entries(response: Element) -> Iterator[Entry]:
    href = response.findtext("{DAV:}href") or ""
    path = _path(href)
    status = _status(response.findtext("{DAV:}status") or "HTTP/1.1 200")
    if status == 404:
        return  # gone while the folder was listed
    if status != 200:
        yield Entry(path, href.endswith("/"), left_out=(_reason(status, href.endswith("/")), f"HTTP {status}"))
        return
    found: dict[str, Element] = {}
    for part in response.iterfind("{DAV:}propstat"):
        if _status(part.findtext("{DAV:}status") or "") == 200:
            found |= {prop.tag.removeprefix("{DAV:}"): prop for prop in part.iterfind("{DAV:}prop/*")}
    if "resourcetype" in found and found["resourcetype"].find("{DAV:}collection") is not None:
        yield Entry(path, is_folder=True)
    elif "getcontentlength" in found and "getlastmodified" in found:  # else it is made when asked for, and no file
        size, changed = ((found[name].text or "").strip() for name in ("getcontentlength", "getlastmodified"))
        etag = strong(found["getetag"].text) if "getetag" in found else None
        if not re.fullmatch("[0-9]{1,18}", size):
            yield Entry(path, False, left_out=(Reason.BAD_SIZE, f"the server gives {size[:40]!r} as its size"))
        else:
            yield Entry(path, False, int(size), _time_or_0(changed), etag)


def _reason(status: int, is_folder: bool) -> Reason:
    if status in (401, 403):
        return Reason.CLOSED_FOLDER if is_folder else Reason.DENIED
    return Reason.BROKEN_FOLDER if is_folder else Reason.READ_ERROR


def _time_or_0(http_date: str) -> int:
    try:
        return time_of(http_date)
    except ValueError:
        return 0


def _path(href: str) -> str:
    path = href if href.startswith("/") else urlsplit(href).path  # a path, or a whole URL
    return unquote(path, errors="surrogateescape").rstrip("/")


def _status(line: str) -> int:
    """Of "HTTP/1.1 200 OK"; 0 if it is no such line."""
    found = re.match(r"\s*\S+\s+([0-9]{3})\b", line)
    return int(found[1]) if found else 0


def strong(etag: str | None) -> str | None:
    """The ETag's own text; None for a weak one, by which no range may be asked for."""
    return None if etag is None or etag.startswith("W/") else etag.strip().strip('"') or None


def time_of(http_date: str) -> int:
    """In nanoseconds, of whole seconds. Raises ValueError."""
    try:
        return ns_of(parsedate_to_datetime(http_date))
    except OverflowError as error:
        raise ValueError(str(error)) from error
