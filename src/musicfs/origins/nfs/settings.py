"""The settings of an NFS origin, from a table of the configuration or from a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from musicfs.config.sources import Expected
from musicfs.origins.links import LinksSetting

_Port = Annotated[Annotated[int, Field(ge=1, le=65535)] | None, Expected("a whole number from 1 to 65535")]


class NfsSettings(BaseModel):
    """Either `path`, where the system has mounted the export, or `host` and `export`.

    links: which symbolic links are followed, with `path`. port, mount_port: of the NFS service and of the mount
    service; the server's rpcbind knows those that are not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[Path | None, Expected("the folder at which the export is mounted")] = None
    host: Annotated[Annotated[str, Field(min_length=1)] | None, Expected("the name or the address of the server")] = (
        None
    )
    export: Annotated[
        Annotated[str, Field(pattern=r"^/[^\x00]*$")] | None, Expected("the exported folder, from the / on")
    ] = None
    port: _Port = None
    mount_port: _Port = None
    links: LinksSetting = None
    version: Annotated[Literal[3], Expected("3; mount an export that has only version 4, and set its path")] = 3

    @model_validator(mode="after")
    def _one_way(self) -> NfsSettings:
        remote = {name for name in ("host", "export", "port", "mount_port") if getattr(self, name) is not None}
        if self.path is not None and remote:
            raise ValueError("use either path, for an export that is mounted, or host and export")
        if self.path is None and self.links is not None:
            raise ValueError("links is for an export that is mounted; where MusicFS reads it, no link is followed")
        if self.path is None and not remote >= {"host", "export"}:
            raise ValueError("use host and export, or path for an export that is mounted")
        return self


def from_url(url: SplitResult) -> dict[str, object]:
    """nfs://host[:port]/export[?mount_port=N]: OriginKind.from_url.

    The whole path is the export, as with mount(8): servers let folders below an exported one be mounted too.
    """
    if url.username is not None or url.password is not None:
        raise ValueError("NFS knows no users or passwords; leave out what is before the @.")
    if url.fragment:
        raise ValueError("write # as %23 in a name.")
    export = unquote(url.path, errors="surrogateescape").rstrip("/")
    if not url.hostname or not export:
        raise ValueError("an export is named as nfs://host/export, with a folder below it if need be.")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - {"mount_port", "version"}):
        raise ValueError(f"{unknown[0]} has no meaning here; after '?' there may be mount_port=N.")
    found: dict[str, object] = {"host": url.hostname, "export": export, "port": _port(url)}
    found |= {name: int(value) if value.isdecimal() else value for name, value in options.items()}
    return {name: value for name, value in found.items() if value is not None}


def _port(url: SplitResult) -> int | None:
    try:
        return url.port
    except ValueError:
        raise ValueError("the port is a number from 1 to 65535.") from None
