"""Fixtures for tests on real mounts: each runs as root and as an ordinary user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mounting import Account, Place, account, place


@pytest.fixture(params=["root", "ordinary"], scope="module")
def who(request: pytest.FixtureRequest) -> Account:
    return account(request.param)


@pytest.fixture
def here(who: Account) -> Iterator[Place]:
    with place(who) as made:
        yield made
