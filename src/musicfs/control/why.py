"""Why a track plays from where it plays: its variants, their replicas, and the rank of each with its reason."""

from __future__ import annotations

from typing import Any

from musicfs.app.app import App
from musicfs.catalog.view import Node
from musicfs.control.views import Json, location
from musicfs.errors import UserError
from musicfs.model import Content, HealthStatus, OriginId, Replica


def why(app: App, path: str) -> Json:
    """Everything that decides where the file at `path` (relative to the mount point) is read from.

    Raises `UserError` when there is no such file.
    """
    node = _find(app, path)
    if node.content is None:
        raise UserError(f"{path or 'The mount point'} is a folder: ask about one of the files in it.")
    contents = [app.tree.content(number) for number in app.tree.variants(node.ino)]
    return {
        "path": path,
        "size": node.size,
        "content": _fingerprint(app.tree.content(node.content)),
        "unparsed": app.tree.problem(node.content),
        "variants": [_variant(app, content, node.content) for content in contents if content is not None],
    }


def _find(app: App, path: str) -> Node:
    ino = app.tree.find(path)
    node = app.tree.node(ino) if ino is not None else None
    if node is None:
        raise UserError(f"There is no {path} in the mount; `ls` shows what there is.")
    return node


def _fingerprint(content: Content | None) -> str:
    return content.fingerprint.hex() if content is not None else ""


def _variant(app: App, content: Content, shown: int) -> Json:
    replicas = app.tree.replicas(content.id)
    ranked = [candidate.replica for candidate in app.registry.route_all(replicas)]
    rest = [replica for replica in replicas if replica not in ranked]
    return {
        "content": _fingerprint(content),
        "size": content.size,
        "shown": content.id == shown,
        "replicas": [_replica(app, replica, ranked) for replica in (*ranked, *rest)],
    }


def _replica(app: App, replica: Replica, ranked: list[Replica]) -> Json:
    config = next((c for c in app.config.origins if c.id == replica.origin), None)
    root = location(config) if config is not None else ""
    latency = app.router.latency(replica.origin)
    view: dict[str, Any] = {
        "origin": replica.origin,
        "path": replica.path,
        "location": f"{root}/{replica.path}" if root.startswith("/") else f"{replica.origin}:{replica.path}",
        "health": app.monitor.state(replica.origin).status.value,
        "priority": app.router.get_priority(replica.origin),
        "p50_ms": round(latency.p50_ms, 3) if latency.count else None,
        "quarantined": app.registry.is_quarantined(replica),
        "rank": ranked.index(replica) + 1 if replica in ranked else None,
        "reason": _reason(app, replica, ranked),
    }
    return view


_TIERS = {
    HealthStatus.HEALTHY: "healthy",
    HealthStatus.UNKNOWN: "not checked yet",
    HealthStatus.DEGRADED: "degraded",
    HealthStatus.UNHEALTHY: "unhealthy",
}


def _reason(app: App, replica: Replica, ranked: list[Replica]) -> str:
    aside = app.registry.quarantined.held.get(replica)
    if aside is not None and aside.against is not None:
        return f"quarantined: its bytes are not those at {aside.against}, and nobody can tell which are right"
    if aside is not None:
        return "quarantined: its bytes are not those that were read before"
    if replica not in ranked:
        return "its origin could not be opened"
    state = app.monitor.state(replica.origin)
    health = _TIERS[state.status] + (f": {state.reason}" if state.reason else "")
    place = ranked.index(replica)
    if place == 0:
        least_bad = "; the least bad, asked first" if state.status is HealthStatus.UNHEALTHY else ", serves now"
        priority = f", priority {app.router.get_priority(replica.origin)}" if not state.reason else ""
        return f"{health}{priority}{least_bad}"
    return f"{health}{_behind(app, replica.origin, ranked[place - 1].origin)}"


def _behind(app: App, origin: OriginId, better: OriginId) -> str:
    """Why `origin` comes after `better`; empty when its health, which was told already, is why."""
    if origin == better:
        return ", another copy at the same origin"
    usable = (HealthStatus.DEGRADED, HealthStatus.UNKNOWN)
    its, others = app.monitor.state(origin).status, app.monitor.state(better).status
    if its is not others and not (its in usable and others in usable):
        return ""
    priority, other = app.router.get_priority(origin), app.router.get_priority(better)
    if priority > other:
        return f", but priority {priority} comes after {other}"
    if priority == other and app.router.latency(origin).p50_ms > app.router.latency(better).p50_ms:
        return f", but slower than {better}"
    return f", ranks after {better}"
