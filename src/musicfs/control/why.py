"""The reason why a track plays from where it plays: its variants, their replicas, and the rank of each."""

from __future__ import annotations

from musicfs.app.current_config import CurrentConfig
from musicfs.cache.store import BlockStore
from musicfs.catalog.view import Inode, TreeView
from musicfs.control.views import Json, location
from musicfs.errors import UserError
from musicfs.federation.quarantine import OTHER_BYTES
from musicfs.federation.registry import OriginRegistry
from musicfs.model import Content, HealthStatus, OriginId, Replica

_TIERS = {
    HealthStatus.HEALTHY: "healthy",
    HealthStatus.UNKNOWN: "not checked yet",
    HealthStatus.DEGRADED: "degraded",
    HealthStatus.UNHEALTHY: "unhealthy",
}


class WhyView:
    """Says why files play from where they play."""

    def __init__(
        self, config: CurrentConfig, tree: TreeView, registry: OriginRegistry, store: BlockStore | None = None
    ) -> None:
        self._config = config
        self._tree = tree
        self._registry = registry
        self._store = store

    def of(self, path: str) -> Json:
        """Everything that decides where the file at `path` (relative to the mount point) is read from.

        Raises:
            UserError: There is no such file.
        """
        node = self._find(path)
        if node.content is None:
            raise UserError(f"{path or 'The mount point'} is a folder: ask about one of the files in it.")
        generated = self._tree.generated(node.ino)
        source = node.content if generated is None else generated.source
        variants = self._tree.variants(node.ino) if generated is None else [source]
        contents = [self._tree.content(number) for number in variants]
        return {
            "path": path,
            "size": node.size,
            "generated": generated is not None,
            "content": _fingerprint(self._tree.content(source)),
            "unparsed": self._tree.problem(source),
            **self._cached(source),
            "variants": [self._variant(content, source) for content in contents if content is not None],
        }

    def _cached(self, number: int) -> Json:
        """How much of the content is in the cache, in per cent, and whether it is pinned."""
        content = self._tree.content(number)
        if self._store is None or content is None:
            return {"cached_percent": 0, "pinned": False}
        return {"cached_percent": int(100 * self._store.share(content)), "pinned": self._store.is_pinned(content)}

    def _find(self, path: str) -> Inode:
        ino = self._tree.find(path)
        node = self._tree.inode(ino) if ino is not None else None
        if node is None:
            raise UserError(f"There is no {path} in the mount; `ls` shows what there is.")
        return node

    def _variant(self, content: Content, shown: int) -> Json:
        replicas = self._tree.replicas(content.id)
        ranked = [candidate.replica for candidate in self._registry.route_all(replicas)]
        rest = [replica for replica in replicas if replica not in ranked]
        return {
            "content": _fingerprint(content),
            "size": content.size,
            "shown": content.id == shown,
            "replicas": [self._replica(replica, ranked) for replica in (*ranked, *rest)],
        }

    def _replica(self, replica: Replica, ranked: list[Replica]) -> Json:
        config = next((c for c in self._config.origins if c.id == replica.origin), None)
        root = location(config) if config is not None else ""
        router, latency = self._registry.router, self._registry.router.latency(replica.origin)
        return {
            "origin": replica.origin,
            "path": replica.path,
            "location": f"{root}/{replica.path}" if root.startswith("/") else f"{replica.origin}:{replica.path}",
            "health": self._registry.monitor.state(replica.origin).status.value,
            "priority": router.get_priority(replica.origin),
            "p50_ms": round(latency.p50_ms, 3) if latency.count else None,
            "quarantined": self._registry.is_quarantined(replica),
            "rank": ranked.index(replica) + 1 if replica in ranked else None,
            "reason": self._reason(replica, ranked),
        }

    def _reason(self, replica: Replica, ranked: list[Replica]) -> str:
        aside = self._registry.quarantined.held.get(replica)
        if aside is not None and aside.block == OTHER_BYTES:
            return f"quarantined: it only looks like the file at {aside.against}, and holds other bytes"
        if aside is not None and aside.against is not None:
            return f"quarantined: its bytes differ from those at {aside.against}, and nothing shows which are right"
        if aside is not None:
            return "quarantined: its bytes differ from those that were read before"
        if replica not in ranked:
            return "its origin could not be opened"
        state = self._registry.monitor.state(replica.origin)
        health = _TIERS[state.status] + (f": {state.reason}" if state.reason else "")
        position = ranked.index(replica)
        if position > 0:
            return f"{health}{self._behind(replica.origin, ranked[position - 1].origin)}"
        least_bad = "; the least bad, asked first" if state.status is HealthStatus.UNHEALTHY else ", serves now"
        priority = f", priority {self._registry.router.get_priority(replica.origin)}" if not state.reason else ""
        return f"{health}{priority}{least_bad}"

    def _behind(self, origin: OriginId, better: OriginId) -> str:
        """Why `origin` comes after `better`; empty when the reason is its health, which the sentence already has."""
        if origin == better:
            return ", another copy at the same origin"
        usable = (HealthStatus.DEGRADED, HealthStatus.UNKNOWN)
        monitor, router = self._registry.monitor, self._registry.router
        its, others = monitor.state(origin).status, monitor.state(better).status
        if its is not others and not (its in usable and others in usable):
            return ""
        priority, other = router.get_priority(origin), router.get_priority(better)
        if priority > other:
            return f", but priority {priority} comes after {other}"
        if priority == other and router.latency(origin).p50_ms > router.latency(better).p50_ms:
            return f", but slower than {better}"
        return f", ranks after {better}"


def _fingerprint(content: Content | None) -> str:
    return content.fingerprint.hex() if content is not None else ""
