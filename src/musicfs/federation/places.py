"""Which origins are one place under two names, so that a copy at both is one copy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault
from musicfs.model import HealthStatus, OriginId
from musicfs.origin import FolderIdentity, KnowsItsFolder, Origin
from musicfs.origins.folder_identity import folder_at_host, folder_here, folder_on_server

log = logging.getLogger(__name__)


class Places:
    """Learns where each origin really is, and compares. Belongs to the event loop's thread.

    Args:
        marker: The name of a file that only the folders of this mount have. An origin with it shows this mount itself.
    """

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._found: dict[OriginId, FolderIdentity] = {}
        self._certain: set[OriginId] = set()

    async def health(self, origin: Origin) -> HealthStatus:
        """Probes an origin, and learns where it is with the first probe that succeeds.

        Raises:
            OriginFailed: The origin fails, or it shows this mount.
        """
        try:
            status = await origin.health()
        except BaseException:
            self._certain.discard(origin.id)  # another disk may be there next time; until then it counts as it did
            raise
        if origin.id not in self._certain:
            await refuse_own_mount(origin, self._marker)
            self._found[origin.id] = await _identity(origin)
            self._certain.add(origin.id)
        return status

    def overlapping(self, ids: Iterable[OriginId]) -> Mapping[OriginId, OriginId]:
        """Maps each origin that is wholly or partly the same place as one before it to the first of these."""
        return first_of_each(ids, self._found)


async def refuse_own_mount(origin: Origin, marker: str) -> None:
    """Raises OriginFailed if the origin shows the mount whose folders have the file `marker`."""
    # Some servers describe whatever they are asked for.
    if not await _has(origin, marker) or await _has(origin, f"{marker}-elsewhere"):
        return
    detail = "it shows this mount itself, and is no other copy of anything: remove it from the configuration"
    raise OriginFailed(origin.id, OriginFault.DENIED, detail)


async def _has(origin: Origin, path: str) -> bool:
    try:
        await origin.stat(path)
    except MusicFSError:
        return False
    return True


async def _identity(origin: Origin) -> FolderIdentity:
    if not isinstance(origin, KnowsItsFolder):
        return FolderIdentity()
    try:
        return await origin.identify_folder()
    except MusicFSError as error:
        log.debug("where %s really is, is not known: %s", origin.id, error)
        return FolderIdentity()


def configured_overlaps(origins: Sequence[OriginConfig]) -> dict[OriginId, OriginId]:
    """Compares origins as `Places.overlapping` does, but by their settings alone. Blocks, also on names of hosts."""
    enabled = [origin for origin in origins if origin.enabled]
    return first_of_each([origin.id for origin in enabled], {origin.id: _configured(origin) for origin in enabled})


def _configured(origin: OriginConfig) -> FolderIdentity:
    settings = origin.settings
    path, host = settings.get("path"), settings.get("host")
    if isinstance(path, Path):
        try:
            return folder_here(str(path))
        except OSError:
            return FolderIdentity()
    if isinstance(host, str):
        parts = (settings.get(name) for name in ("share", "export", "path", "prefix"))
        port = settings.get("port") or ""
        return folder_at_host(f"{origin.origin_type}:{port}", host, "/".join(str(part) for part in parts if part))
    where = "/".join(str(settings.get(name) or "") for name in ("bucket", "prefix"))
    return folder_on_server(f"{origin.origin_type}:{settings.get('endpoint') or ''}", where)


def first_of_each(ids: Iterable[OriginId], known: Mapping[OriginId, FolderIdentity]) -> dict[OriginId, OriginId]:
    """Maps each origin that overlaps one before it, also by way of a third, to the first of these."""
    first = {id: id for id in ids if id in known}
    order = list(first)
    for one, other in combinations(order, 2):
        if known[one].overlaps(known[other]):
            earlier, later = sorted((first[one], first[other]), key=order.index)
            first |= {id: earlier for id, of in first.items() if of == later}
    return {id: of for id, of in first.items() if of != id}
