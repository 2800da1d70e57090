"""What commands do without a mount, in their own process: scan, probe, read the catalogue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from random import Random
from typing import Any

from musicfs.catalog.database import CATALOG, prepare_catalog
from musicfs.catalog.view import OriginRow, TreeView
from musicfs.cli.output import warn
from musicfs.config.kinds import open_origin
from musicfs.config.models import Config
from musicfs.control import views
from musicfs.errors import MusicFSError, UserError
from musicfs.events import Event, EventBus, ScanProgress
from musicfs.federation.health import HealthMonitor
from musicfs.federation.health_state import NEVER_SEEN
from musicfs.library.client import Library
from musicfs.model import OriginId
from musicfs.system import hardening
from musicfs.system.runtime import claim_cache, lock_cache
from musicfs.system.sqlite import SqliteError


def catalogued(config: Config) -> Mapping[OriginId, OriginRow]:
    """Returns what the catalogue knows of each origin: nothing if there is no catalogue of this version."""
    path = config.cache_dir / CATALOG
    if not path.exists():
        return {}
    claim_cache(config.cache_dir)
    try:
        with closing(TreeView.open(path, 1)) as view:
            return {row.id: row for row in view.origins()}
    except SqliteError:
        return {}


def list_origins(config: Config) -> list[dict[str, Any]]:
    """Returns the configured origins as `musicfs origin list --json` prints them, preferred ones first."""
    rows = catalogued(config)
    ordered = sorted(config.origins, key=lambda origin: origin.priority)
    return [views.configured_origin(origin, rows.get(origin.id), NEVER_SEEN) for origin in ordered]


def check_origins(config: Config, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Probes each of the origins once.

    Raises:
        UserError: an id is not configured.
    """
    known = {origin.id: origin for origin in config.origins}
    for id in ids:
        if id not in known:
            raise UserError(f"There is no origin {id!r}; there are: {', '.join(known)}.")
    hardening.hide_memory()
    return asyncio.run(_probe(config, [OriginId(id) for id in ids]))


async def _probe(config: Config, ids: Sequence[OriginId]) -> list[dict[str, Any]]:
    monitor = HealthMonitor(config.health, EventBus(), Random())
    populated = {id for id, row in catalogued(config).items() if row.files}
    origins = [open_origin(o, populated=o.id in populated) for o in config.origins if o.id in ids]
    try:
        for origin in origins:
            monitor.add_origin(origin)
        states = await asyncio.gather(*(monitor.check_now(id) for id in ids))
    finally:
        await monitor.aclose()
        await asyncio.gather(*(origin.aclose() for origin in origins))
    return [views.health(id, state) for id, state in zip(ids, states, strict=True)]


@asynccontextmanager
async def _library(config: Config, listen: Callable[[Event], None]) -> AsyncIterator[Library]:
    with lock_cache(config.cache_dir, None):
        catalog = config.cache_dir / CATALOG
        if warning := prepare_catalog(catalog):
            warn(f"warning: {warning}")
        logging.getLogger().setLevel(logging.ERROR)  # also that of the worker: the results have the rest
        bus = EventBus()
        bus.listen(listen)
        library = Library(config, catalog, bus, lambda changes: None)
        try:
            yield library
        finally:
            await library.aclose()


def scan_origins(
    config: Config, ids: Sequence[OriginId], listen: Callable[[Event], None], *, accept_removals: bool = False
) -> list[dict[str, Any]]:
    """Scans the origins side by side.

    Args:
        ids: The origins to scan.
        listen: Receives the events of the scans.
        accept_removals: Removes what is gone from the origins from the catalogue, however much it is.

    Returns:
        The results as `musicfs scan --json` prints them. A scan that failed says so in its result.

    Raises:
        UserError: the cache folder is in use.
    """
    hardening.hide_memory()
    return asyncio.run(_scan(config, ids, listen, accept_removals))


async def _scan(
    config: Config, ids: Sequence[OriginId], listen: Callable[[Event], None], accept_removals: bool
) -> list[dict[str, Any]]:
    async with _library(config, listen) as library:
        results = await asyncio.gather(*(_scan_one(library, id, listen, accept_removals) for id in ids))
        await library.finish_index()  # nothing else would, before the next mount
        return results


async def _scan_one(
    library: Library, id: OriginId, listen: Callable[[Event], None], accept_removals: bool
) -> dict[str, Any]:
    listen(ScanProgress(id, 0, 0, 0))  # the worker may take a while to report its first
    try:
        if accept_removals:
            await library.accept_removals(id)
        return {"origin": id, **views.finished(await library.scan(id))}
    except MusicFSError as error:
        return {"origin": id, **views.unfinished(str(error))}
