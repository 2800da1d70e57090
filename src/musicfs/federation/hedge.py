"""When to ask a second origin besides a late one, and how often that may happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from musicfs.federation.router import LatencyStats

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig

MARGIN = 1.25


def hedge_delay(stats: LatencyStats, metered: bool, retry: RetryConfig) -> float:
    """Seconds to wait for an origin with these measurements before asking another one, metered or not.

    A quarter more than its usual time: that time alone, being the p95, would have a twentieth of all reads hedged.
    """
    usual_ms = MARGIN * stats.p95_ms if stats.count else retry.hedge_max_ms
    delay_ms = min(max(usual_ms, retry.hedge_min_ms), retry.hedge_max_ms)
    return (max(delay_ms, retry.hedge_metered_ms) if metered else delay_ms) / 1000


class HedgeBudget:
    """A token bucket: every fetch earns `share` of a token, every hedge costs one; it begins full, with `burst`."""

    def __init__(self, share: float, burst: int) -> None:
        self._share = share
        self._capacity = max(float(burst), 1.0)
        self._tokens = float(burst)

    def earn(self) -> None:
        self._tokens = min(self._tokens + self._share, self._capacity)

    def spend(self) -> bool:
        """Takes a token if there is one. Ten tenths are a little less than one in binary, hence the margin."""
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True
