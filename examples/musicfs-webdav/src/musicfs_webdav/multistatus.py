"""What a server answers to PROPFIND (RFC 4918, 9.1): what lies in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from musicfs.model import ns_of

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


def parse(body: bytes) -> list[Entry]:
    """What is answered. Raises ValueError for what can't be understood, and PermissionError, with the path, when
    something in the folder is kept from us."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if root.tag != "{DAV:}multistatus":
        raise ValueError(f"{root.tag!r} instead of a listing")
    return [entry for response in root.iterfind("{DAV:}response") for entry in _entries(response)]


def _entries(response: ElementTree.Element) -> Iterator[Entry]:
    path = _path(response.findtext("{DAV:}href") or "")
    status = _status(response.findtext("{DAV:}status") or "HTTP/1.1 200")
    if status == 404:
        return  # gone while the folder was listed
    if status != 200:
        raise PermissionError(f"{path}: HTTP {status}")
    found: dict[str, ElementTree.Element] = {}
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
    return ns_of(parsedate_to_datetime(http_date))
