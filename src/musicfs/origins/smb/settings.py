"""The settings of an SMB origin, from a table of the configuration or from a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from musicfs.config.sources import Expected
from musicfs.origins.links import LinksSetting

STANDARD_PORT = 445


class SmbSettings(BaseModel):
    """Either path, where the system has mounted the share, or host and share, which MusicFS then connects to.

    prefix: the folder below the share that holds the music. user: by default a guest; a user without a password needs
    a Kerberos ticket. With path, links says which symbolic links are followed, and the other keys are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[Path | None, Expected("the folder at which the share is mounted")] = None
    host: Annotated[Annotated[str, MinLen(1)] | None, Expected("the name or the address of the server")] = None
    share: Annotated[Annotated[str, MinLen(1)] | None, Expected("the name of the share")] = None
    port: Annotated[int, Ge(1), Le(65535), Expected("a whole number from 1 to 65535")] = STANDARD_PORT
    user: Annotated[Annotated[str, MinLen(1)] | None, Expected("the user's name on the server")] = None
    domain: Annotated[Annotated[str, MinLen(1)] | None, Expected("the user's domain")] = None
    links: LinksSetting = None
    prefix: Annotated[str, Expected("a folder below the share")] = ""
    password: Annotated[SecretStr | None, Expected("a text in quotes")] = None
    password_file: Annotated[Path | None, Expected("a file that only you can read")] = None

    @model_validator(mode="after")
    def _one_way(self) -> SmbSettings:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        if self.path is not None and given & {"host", "share", "user", "domain", "password", "password_file"}:
            raise ValueError("use either path, for a share that is mounted, or host and share")
        if self.path is None and self.links is not None:
            raise ValueError("links is for a share that is mounted; elsewhere the server alone follows links")
        if self.path is None and (self.host is None or self.share is None):
            raise ValueError("use host and share, or path for a share that is mounted")
        if self.share is not None and set(self.share) & set("/\\"):
            raise ValueError("share is the name alone; a folder below it is the prefix")
        if self.domain is not None and self.user is None:
            raise ValueError("a domain is of no use without a user")
        return self


def from_url(url: SplitResult) -> dict[str, object]:
    """smb://[[DOMAIN;]user@]host[:port]/share[/prefix]: OriginKind.from_url."""
    if url.password is not None:
        raise ValueError(
            "leave the password out, since others can see it here; put it into the variable"
            " MUSICFS_<ID>_PASSWORD or, in a configuration file, name a file with password_file."
        )
    share, _, prefix = unquote(url.path).strip("/").partition("/")
    if not url.hostname or not share:
        raise ValueError("a share is named as smb://user@host/share, with a folder below it if need be.")
    if url.query or url.fragment:
        raise ValueError("a share has nothing after '?' or '#'; write these characters as %3F and %23 in a name.")
    domain, _, user = unquote(url.username or "").rpartition(";")
    found = {"host": url.hostname, "share": share, "port": _port(url), "user": user, "domain": domain, "prefix": prefix}
    return {name: value for name, value in found.items() if value}


def _port(url: SplitResult) -> int | None:
    try:
        return url.port
    except ValueError:
        raise ValueError("the port is a number from 1 to 65535.") from None
