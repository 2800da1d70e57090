"""Music on a WebDAV server: a kind of origin that is a package of its own."""

from __future__ import annotations

from musicfs.model import OriginType
from musicfs.origins.base import OriginKind
from musicfs_webdav.driver import WebdavOrigin
from musicfs_webdav.settings import WebdavSettings, from_url

KIND = OriginKind(
    OriginType("webdav"), WebdavSettings, WebdavOrigin, remote=True, schemes=("webdav", "webdavs"), from_url=from_url
)
