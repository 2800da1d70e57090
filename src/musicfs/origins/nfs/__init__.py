"""Music in an NFS export: mounted by the system, or reached from here, in user space and without root."""

from __future__ import annotations

from musicfs.config import OriginConfig
from musicfs.errors import UserError
from musicfs.model import OriginType
from musicfs.origins.base import Origin, OriginKind
from musicfs.origins.local import LocalOrigin
from musicfs.origins.nfs.settings import NfsSettings, from_url


def open_nfs(config: OriginConfig, *, populated: bool = False) -> Origin:
    """See base.OpenOrigin. Raises UserError when the library for exports that are not mounted is missing."""
    settings = NfsSettings.model_validate(dict(config.settings))
    if settings.path is not None:
        return LocalOrigin(config.model_copy(update={"settings": {"path": settings.path}}), populated=populated)
    from musicfs.origins.nfs.driver import NfsOrigin
    from musicfs.origins.nfs.libnfs import load

    try:
        load()
    except OSError:
        raise UserError(
            f"Origin {config.id!r} needs a library: `apt install libnfs13` installs it (libnfs14 on newer systems);"
            f" or mount {settings.host}:{settings.export}, and give its path."
        ) from None
    return NfsOrigin(config, populated=populated)


KIND = OriginKind(OriginType.NFS, NfsSettings, open_nfs, remote=True, schemes=("nfs",), from_url=from_url)
