"""The fixtures of the tests on real mounts."""

from __future__ import annotations

from tests.mount.conftest import here, who

__all__ = ["here", "who"]
