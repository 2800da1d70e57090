"""Music in an NFS export: mounted by the system, or read by MusicFS in user space and without root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musicfs.config.kinds import OriginKind
from musicfs.config.models import OriginConfig
from musicfs.model import OriginType
from musicfs.origin import Origin, server_name
from musicfs.origins.local.driver import open_mounted
from musicfs.origins.nfs.settings import NfsSettings, from_url


def open_nfs(config: OriginConfig, *, populated: bool = False) -> Origin:
    """Makes the driver: for the folder where the system has mounted the export, or for the export itself."""
    settings = NfsSettings.model_validate(dict(config.settings))
    if settings.path is not None:
        return open_mounted(config, populated=populated)
    from musicfs.origins.nfs.driver import NfsOrigin

    return NfsOrigin(config, populated=populated)


def _missing(config: OriginConfig) -> str | None:
    """Names the system library that reading an export without a mount needs (OriginKind.missing)."""
    if config.settings.get("path"):
        return None
    from musicfs.origins.nfs.libnfs import load

    try:
        load()
    except OSError:
        host, export = config.settings.get("host"), config.settings.get("export")
        return (
            f"Origin {config.id!r} needs the library libnfs: `apt install libnfs13` installs it (libnfs14 on newer"
            f" systems); or mount {host}:{export}, and set the path."
        )
    return None


def _server(settings: Mapping[str, Any]) -> str | None:
    if settings.get("mount_port") is not None:  # a second port, at which another program may listen
        return server_name(settings.get("host"), f"{settings.get('port')}+{settings['mount_port']}")
    return server_name(settings.get("host"), settings.get("port"))


KIND = OriginKind(
    OriginType.NFS,
    NfsSettings,
    open_nfs,
    remote=True,
    schemes=("nfs",),
    from_url=from_url,
    missing=_missing,
    server=_server,
)
