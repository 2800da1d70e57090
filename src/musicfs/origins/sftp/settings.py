"""The settings of an SFTP origin, from a table of the configuration or from a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from musicfs.config.sources import Expected


class SftpSettings(BaseModel):
    """Where the music is, and how to log in. ~/.ssh/config and the SSH agent supply what is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1), Expected("the name or address of the server")]
    path: Annotated[str, Field(min_length=1), Expected("the folder on the server, such as /srv/music, or ~/music")]
    port: Annotated[int | None, Field(ge=1, le=65535), Expected("a port from 1 to 65535")] = None
    user: Annotated[str | None, Field(min_length=1), Expected("the user's name on the server")] = None
    key_file: Annotated[Path | None, Expected("the file with the private key")] = None
    known_hosts: Annotated[Path | None, Expected("a file of host keys, in the format of ssh")] = None
    password: Annotated[SecretStr | None, Expected("a password in quotes")] = None
    password_file: Annotated[Path | None, Expected("a file that only you can read")] = None
    passphrase: Annotated[SecretStr | None, Expected("the key's passphrase in quotes")] = None
    passphrase_file: Annotated[Path | None, Expected("a file that only you can read")] = None


def remote_path(path: str) -> str:
    """Returns the path for the server: one without a slash at its beginning is in the user's home there."""
    path = "." if path == "~" else path.removeprefix("~/")
    return path.rstrip("/") or ("/" if path.startswith("/") else ".")


def from_url(url: SplitResult) -> dict[str, object]:
    """sftp://user@host:port/folder; /~/folder is in the user's home at the server."""
    if url.password is not None:
        raise ValueError(
            "a password in a URL can be read by everyone on this machine: leave it out, and set MUSICFS_<ID>_PASSWORD"
            " in the environment, or password_file in the configuration."
        )
    if not url.hostname:
        raise ValueError("the host is missing: sftp://user@host/folder.")
    if url.query or url.fragment:
        raise ValueError("write '?' as %3F and '#' as %23 in a folder's name; settings go into the configuration file.")
    if not url.path:
        raise ValueError(f"the folder is missing: {url.geturl()}/folder.")
    path = unquote(url.path, errors="surrogateescape")
    settings: dict[str, object] = {"host": url.hostname, "path": path[1:] if path.startswith("/~") else path}
    if url.port is not None:
        settings["port"] = url.port
    if url.username:
        settings["user"] = unquote(url.username)
    return settings
