"""Music on a share of a NAS or of Windows: mounted by the system, or read by MusicFS over SMB 2 and 3."""

from __future__ import annotations

from musicfs.config.kinds import OriginKind, missing_extra
from musicfs.config.models import OriginConfig
from musicfs.model import OriginType
from musicfs.origin import Origin, server_name
from musicfs.origins.local.driver import open_mounted
from musicfs.origins.smb.settings import STANDARD_PORT, SmbSettings, from_url


def open_smb(config: OriginConfig, *, populated: bool = False) -> Origin:
    """Makes the driver: for the folder where the system has mounted the share, or for the share itself."""
    settings = SmbSettings.model_validate(dict(config.settings))
    if settings.path is not None:
        return open_mounted(config, populated=populated)
    from musicfs.origins.smb.driver import SmbOrigin

    return SmbOrigin(config, populated=populated)


def _missing(config: OriginConfig) -> str | None:
    return None if config.settings.get("path") else missing_extra(config, "smbprotocol", "smb")


KIND = OriginKind(
    OriginType.SMB,
    SmbSettings,
    open_smb,
    remote=True,
    schemes=("smb", "cifs"),
    from_url=from_url,
    missing=_missing,
    server=lambda settings: server_name(settings.get("host"), settings.get("port", STANDARD_PORT)),
)
