"""/problems: the files and folders that are not shown as they should be, and which of them the user has dismissed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from musicfs.catalog.problem_list import ProblemRow, count_problems, find_problems
from musicfs.control.responses import Body, KnownOrigins, RequestRefused, body_of, number_of
from musicfs.control.views import Json, problem_counts
from musicfs.library.client import Library
from musicfs.model import OriginId
from musicfs.problems import Reason

_USUAL = 1000
_MAX = 100_000


class _Dismissal(Body):
    origin: str | None = None
    path: str = ""
    reason: str | None = None
    dismissed: bool = True


class ProblemRoutes:
    """Lists problems, and dismisses them."""

    def __init__(self, catalog: Path, library: Library, known: KnownOrigins) -> None:
        self._catalog = catalog
        self._library = library
        self._known = known

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/problems", self._list), web.post("/problems/dismiss", self._dismiss)]

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        origins = self._origins(query.get("origin"))
        reason = _reason(query.get("reason"))
        most = number_of(request, "most", _USUAL, _MAX)
        also_dismissed = query.get("dismissed", "false") == "true"
        counts = await asyncio.to_thread(count_problems, self._catalog)
        rows = await asyncio.to_thread(self._find, origins, query.get("path", ""), reason, also_dismissed, most + 1)
        return web.json_response({
            "counts": problem_counts(counts),
            "problems": [_problem(row) for row in rows[:most]],
            "more": len(rows) > most,
        })  # fmt: skip

    def _find(
        self, origins: list[OriginId], path: str, reason: Reason | None, dismissed: bool, most: int
    ) -> list[ProblemRow]:
        """Blocks."""
        rows: list[ProblemRow] = []
        for origin in origins:
            room = most - len(rows)
            rows += find_problems(
                self._catalog, origin, under=path, reason=reason, dismissed=dismissed, limit=room
            )  # fmt: skip
        return rows

    async def _dismiss(self, request: web.Request) -> web.Response:
        """Returns how many problems are dismissed now and were not before, or the other way round."""
        wanted = await body_of(request, _Dismissal)
        reason = _reason(wanted.reason)
        changed = [
            await self._library.dismiss(origin, wanted.path.strip("/"), reason, dismissed=wanted.dismissed)
            for origin in self._origins(wanted.origin)
        ]
        return web.json_response({"changed": sum(changed)})

    def _origins(self, id: str | None) -> list[OriginId]:
        return self._known.all() if id is None else [self._known.find(id)]


def _reason(text: str | None) -> Reason | None:
    if text is None:
        return None
    try:
        return Reason(text)
    except ValueError:
        names = ", ".join(sorted(reason.value for reason in Reason))
        raise RequestRefused(400, f"There is no reason {text!r}; there are: {names}.") from None


def _problem(row: ProblemRow) -> Json:
    return {
        "origin": row.origin,
        "path": row.path,
        "reason": row.reason.value,
        "detail": row.detail,
        "since": row.since,
        "dismissed": row.dismissed,
        "shown": row.reason.is_shown,
    }
