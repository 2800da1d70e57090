"""Music on a WebDAV server: a kind of origin that is a package of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from musicfs.config.kinds import OriginKind
from musicfs.model import OriginType
from musicfs.origin import server_name
from musicfs_webdav.driver import WebdavOrigin
from musicfs_webdav.settings import WebdavSettings, from_url


def _server(settings: Mapping[str, Any]) -> str | None:
    url = urlsplit(str(settings.get("url", "")))
    return server_name(url.hostname, url.port or (443 if url.scheme == "https" else 80))


KIND = OriginKind(
    OriginType("webdav"),
    WebdavSettings,
    WebdavOrigin,
    remote=True,
    schemes=("webdav", "webdavs"),
    from_url=from_url,
    server=_server,
)
