"""/quarantine: the copies that do not serve because their bytes are wrong or disputed."""

from __future__ import annotations

from aiohttp import web

from musicfs.control.responses import Body, RequestRefused, body_of
from musicfs.federation.quarantine import OTHER_BYTES, Quarantine, SetAside

Json = dict[str, object]


class _Release(Body):
    origin: str | None = None
    path: str | None = None
    all: bool = False


class QuarantineRoutes:
    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/quarantine", self._list), web.post("/quarantine/release", self._release)]

    async def _list(self, request: web.Request) -> web.Response:
        held = sorted(self._quarantine.held.values(), key=lambda each: (each.replica.origin, each.replica.path))
        return web.json_response({"quarantined": [_view(each) for each in held]})

    async def _release(self, request: web.Request) -> web.Response:
        asked = await body_of(request, _Release)
        if asked.all == (asked.path is not None) or (asked.path is None) != (asked.origin is None):
            raise RequestRefused(400, 'POST /quarantine/release takes either {"origin", "path"} or {"all": true}.')
        chosen = [
            replica
            for replica in self._quarantine.held
            if asked.all or (replica.origin, replica.path) == (asked.origin, asked.path)
        ]
        if not chosen and not asked.all:
            raise RequestRefused(
                404, f"{asked.origin}:{asked.path} is not in quarantine; `musicfs quarantine list` shows what is."
            )
        return web.json_response({"released": self._quarantine.release(chosen)})


def _view(aside: SetAside) -> Json:
    is_other = aside.block == OTHER_BYTES
    return {
        "origin": aside.replica.origin,
        "path": aside.replica.path,
        "size": aside.replica.size,
        "reason": "other-content" if is_other else "damaged" if aside.against is None else "disputed",
        "block": None if is_other else aside.block,
        "against": aside.against,
    }
