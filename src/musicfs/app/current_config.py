"""The configuration that is in effect, and how another one takes its place while the mount runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from musicfs.app.membership import Membership
from musicfs.catalog.view import TreeView
from musicfs.config.kinds import find_kind
from musicfs.config.models import Config, OriginConfig, settle_links
from musicfs.errors import UsageError
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.health import HealthMonitor
from musicfs.model import OriginId


class CurrentConfig:
    """The configuration that is in effect now.

    cached_origins: the origins whose bytes go into the cache on disk; by default the remote ones. The set changes in
    place, so that a read can ask it without another call.
    """

    def __init__(self, config: Config) -> None:
        self.value = config
        self.cached_origins: set[OriginId] = set()
        self.replace(config)

    @property
    def origins(self) -> Sequence[OriginConfig]:
        return self.value.origins

    def replace(self, config: Config) -> None:
        self.value = config
        self.cached_origins.clear()
        self.cached_origins.update(_cached_origins(config))


def _cached_origins(config: Config) -> Iterator[OriginId]:
    for origin in config.origins:
        with contextlib.suppress(UsageError):  # of a kind that is not installed: it does not take part
            if find_kind(origin.origin_type).remote if origin.cache is None else origin.cache:
                yield origin.id


class ConfigApplier:
    """Applies another configuration to the parts of a running mount, one at a time."""

    def __init__(
        self,
        current: CurrentConfig,
        membership: Membership,
        monitor: HealthMonitor,
        failover: FailoverExecutor,
        tree: TreeView,
    ) -> None:
        self._current = current
        self._membership = membership
        self._monitor = monitor
        self._failover = failover
        self._tree = tree
        self._changing = asyncio.Lock()

    async def apply(self, wanted: Config) -> None:
        """Makes this the configuration as far as a mount can change: origins, health and retry settings.

        The other settings of `wanted` have no effect.

        Raises:
            MusicFSError: An origin can't be opened. Nothing has changed.
        """
        async with self._changing:
            before = self._current.value
            wanted = settle_links(wanted.model_copy(update={"mount": before.mount}))
            if wanted.origins != before.origins:
                await self._membership.change(before.origins, wanted.origins, self._tree.populated())
            if wanted.health != before.health:
                self._monitor.configure(wanted.health)
            if wanted.retry != before.retry:
                self._failover.configure(wanted.retry)
            changed = {"origins": wanted.origins, "health": wanted.health, "retry": wanted.retry}
            self._current.replace(before.model_copy(update=changed))
