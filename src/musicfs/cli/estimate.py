"""`musicfs scan --estimate`: says what first scans take, in requests and bytes, before they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from musicfs.cli.output import Word, counted, say, say_json, size_text, table, warn
from musicfs.config.kinds import open_origin
from musicfs.config.models import Config, OriginConfig
from musicfs.errors import MusicFSError
from musicfs.library.estimate import estimate_scan
from musicfs.system import hardening

if TYPE_CHECKING:
    from musicfs.model import OriginId


def print_estimates(config: Config, *, as_json: bool) -> bool:
    """Lists the enabled origins side by side, and prints what a first scan of each takes. Returns whether all could be
    listed."""
    results = estimates(config, [origin.id for origin in config.origins if origin.enabled])
    if as_json:
        say_json({"estimates": results})
    else:
        table(("ORIGIN", "FILES", "SIZE", "REQUESTS", "TO READ", "RESULT"), [*map(_row, results)], right=range(1, 5))
        for result in results:
            if result["error"]:
                say(Word(f"{result['error']}.", "red"))
    return all(result["error"] is None for result in results)


def warn_of_cost(config: Config, unknown: Sequence[OriginId]) -> None:
    """Says what the scans of origins take whose reads cost money. unknown: those that were not scanned before."""
    metered = [origin.id for origin in config.origins if origin.metered and origin.id in unknown]
    for result in estimates(config, metered):
        if result["error"] is None:
            taken = f"{counted(result['requests'], 'request')} for {size_text(result['read_bytes'])}"
            warn(f"the first scan of {result['origin']}, whose reads cost money, takes about {taken}")


def estimates(config: Config, ids: Sequence[OriginId]) -> list[dict[str, Any]]:
    """Returns the estimates as `musicfs scan --estimate --json` prints them."""
    hardening.hide_memory()
    return asyncio.run(_estimates([origin for origin in config.origins if origin.id in ids]))


async def _estimates(origins: Sequence[OriginConfig]) -> list[dict[str, Any]]:
    return await asyncio.gather(*map(_estimate, origins))


async def _estimate(config: OriginConfig) -> dict[str, Any]:
    result: dict[str, Any] = dict.fromkeys(("files", "bytes", "requests", "read_bytes"), 0)
    result = {"origin": config.id, "metered": config.metered, **result, "error": None}
    try:
        origin = open_origin(config, populated=False)
        try:
            found = await estimate_scan(origin, config.ignore)
        finally:
            await origin.aclose()
    except MusicFSError as error:
        return result | {"error": str(error)}
    counts = {"files": found.files, "bytes": found.size, "requests": found.requests, "read_bytes": found.read_bytes}
    return result | counts


def _row(result: dict[str, Any]) -> tuple[Any, ...]:
    return (
        result["origin"],
        f"{result['files']:,}",
        size_text(result["bytes"]),
        f"{result['requests']:,}",
        size_text(result["read_bytes"]),
        Word("failed", "red") if result["error"] else Word("done", "green"),
    )
