"""Raises the limit of files that this process may have open at once."""

from __future__ import annotations

import resource

_ENOUGH = 65536


def raise_limit() -> None:
    """Raises the soft limit of open files to the hard one, at most to `_ENOUGH`: shells and services set 1024,
    for the sake of programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
