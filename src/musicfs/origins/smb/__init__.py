"""Music on a share of a NAS or of Windows: mounted by the system, or spoken to from here over SMB 2 and 3."""

from __future__ import annotations

from importlib.util import find_spec

from musicfs.config import OriginConfig
from musicfs.errors import UserError
from musicfs.model import OriginType
from musicfs.origins.base import Origin, OriginKind
from musicfs.origins.local import LocalOrigin
from musicfs.origins.smb.settings import SmbSettings, from_url


def open_smb(config: OriginConfig, *, populated: bool = False) -> Origin:
    """See base.OpenOrigin. Raises UserError when the library for shares that are not mounted is missing."""
    settings = SmbSettings.model_validate(dict(config.settings))
    if settings.path is not None:
        return LocalOrigin(config.model_copy(update={"settings": {"path": settings.path}}), populated=populated)
    if find_spec("smbprotocol") is None:
        raise UserError(f"Origin {config.id!r} needs a library: `pip install 'musicfs[smb]'` installs it.")
    from musicfs.origins.smb.driver import SmbOrigin

    return SmbOrigin(config, populated=populated)


KIND = OriginKind(OriginType.SMB, SmbSettings, open_smb, remote=True, schemes=("smb", "cifs"), from_url=from_url)
