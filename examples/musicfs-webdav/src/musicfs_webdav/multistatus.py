"""What a server answers to PROPFIND (RFC 4918, 9.1): what lies in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from musicfs.model import ns_of
from musicfs.origins.records import read_records

QUESTION = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>'
    b"<resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """path: on the server, from its root on, without a slash at its end. A folder has no size and no version.

    etag: without its quotes; None where the server has none, or a weak one.
    """

    path: str
    is_folder: bool
    size: int = 0
    mtime_ns: int = 0
    etag: str | None = None


MAX = 50_000
"""Files and folders in one folder. The protocol has no pages, so that a listing of more than that is refused."""


def parse(body: bytes, most: int = MAX, *, whole: bool = True) -> list[Entry]:
    """What is answered, of at most `most` files and folders. Computes for as long as the body is large, so it is for a
    thread.

    whole: the answer must be complete; otherwise it may have been cut off. Raises ValueError for what can't be
    understood, and PermissionError, with the path, when something in the folder is kept from us.
    """
    found: list[Entry] = []
    root = read_records(body, "response", most, lambda response: found.extend(_entries(response)), whole=whole)
    if root.tag != "{DAV:}multistatus":
        raise ValueError(f"{root.tag!r} instead of a listing")
    return found


def _entries(response: Element) -> Iterator[Entry]:
    path = _path(response.findtext("{DAV:}href") or "")
    status = _status(response.findtext("{DAV:}status") or "HTTP/1.1 200")
    if status == 404:
        return  # gone while the folder was listed
    if status != 200:
        raise PermissionError(f"{path}: HTTP {status}")
    found: dict[str, Element] = {}
    for part in response.iterfind("{DAV:}propstat"):
        if _status(part.findtext("{DAV:}status") or "") == 200:
            found |= {prop.tag.removeprefix("{DAV:}"): prop for prop in part.iterfind("{DAV:}prop/*")}
    if "resourcetype" in found and found["resourcetype"].find("{DAV:}collection") is not None:
        yield Entry(path, is_folder=True)
    elif "getcontentlength" in found and "getlastmodified" in found:  # else it is made when asked for, and no file
        size, changed = (found[name].text or "" for name in ("getcontentlength", "getlastmodified"))
        etag = found["getetag"].text if "getetag" in found else None
        yield Entry(path, False, int(size), time_of(changed), strong(etag))


def _path(href: str) -> str:
    path = href if href.startswith("/") else urlsplit(href).path  # a path, or a whole URL
    return unquote(path, errors="surrogateescape").rstrip("/")


def _status(line: str) -> int:
    """Of "HTTP/1.1 200 OK". Raises ValueError."""
    return int(line.split()[1]) if len(line.split()) > 1 else 0


def strong(etag: str | None) -> str | None:
    """The ETag's own text; None for a weak one, by which no range may be asked for."""
    return None if etag is None or etag.startswith("W/") else etag.strip().strip('"') or None


def time_of(http_date: str) -> int:
    """In nanoseconds, of whole seconds. Raises ValueError."""
    try:
        return ns_of(parsedate_to_datetime(http_date))
    except OverflowError as error:
        raise ValueError(str(error)) from error
