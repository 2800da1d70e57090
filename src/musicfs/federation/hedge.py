"""When a late read is hedged, that is, when a second origin is asked too; and how often that may happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from musicfs.federation.router import LatencyStats

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig

MARGIN = 1.25


def hedge_delay(stats: LatencyStats, metered: bool, retry: RetryConfig) -> float:
    """Returns how many seconds to wait for an origin before asking another.

    That is a quarter more than its usual time. The usual time alone is the p95, so it would hedge a twentieth of all
    reads.

    Args:
        stats: the measurements of the origin that is late.
        metered: whether asking the other origin costs money.
        retry: the limits of the delay.
    """
    usual_ms = MARGIN * stats.p95_ms if stats.count else retry.hedge_max_ms
    delay_ms = min(max(usual_ms, retry.hedge_min_ms), retry.hedge_max_ms)
    return (max(delay_ms, retry.hedge_metered_ms) if metered else delay_ms) / 1000


class HedgeBudget:
    """A token bucket: every fetch earns `share` of a token, every hedge costs one. It starts with `burst` tokens."""

    def __init__(self, share: float, burst: int) -> None:
        self._share = share
        self._capacity = max(float(burst), 1.0)
        self._tokens = float(burst)

    def earn(self) -> None:
        self._tokens = min(self._tokens + self._share, self._capacity)

    def spend(self) -> bool:
        """Takes a token; returns False where there is none. Ten tenths are less than one in binary."""
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True
