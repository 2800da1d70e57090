"""What a WebDAV origin's table in the configuration may say, and the URL that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

from musicfs.config.sources import Expected


def _address(value: str) -> str:
    """Without a `Expected`, whose message would show a password that stands in it."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ValueError("the url must be like https://nas.example.net/music")
    if "@" in url.netloc:
        raise ValueError("the url must hold neither user nor password: they have keys of their own")
    return value.rstrip("/")


class WebdavSettings(BaseModel):
    """url: of the folder that holds the music."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_address)]
    user: Annotated[str | None, Expected("the user's name on the server")] = None
    password: Annotated[SecretStr | None, Expected("a password in quotes")] = None
    password_file: Annotated[Path | None, Expected("a file that only you can read")] = None


def from_url(url: SplitResult) -> dict[str, object]:
    """webdav://[user@]host[:port]/folder, or webdavs:// for HTTPS, as OriginKind.from_url."""
    if url.password is not None:
        raise ValueError("leave the password out, since others can see it here; set MUSICFS_<ID>_PASSWORD.")
    if not url.hostname:
        raise ValueError("a folder is named as webdavs://user@host/folder.")
    if url.query or url.fragment:
        raise ValueError("write '?' as %3F and '#' as %23 in a folder's name.")
    scheme = "https" if url.scheme.lower() == "webdavs" else "http"
    settings: dict[str, object] = {"url": f"{scheme}://{url.netloc.rpartition('@')[2]}{url.path}"}
    if url.username:
        settings["user"] = unquote(url.username)
    return settings
