"""A fixed stretch of what `python -m tests.faults` goes on with for as long as asked."""

from __future__ import annotations

import pytest

from tests.faults.promises import KINDS, run
from tests.support.mounting import account

STEPS = 40


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [5])
def test_whatever_fails_the_four_promises_hold(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(account("ordinary"), KINDS, seed, lambda done: done < STEPS)
    with capsys.disabled():
        print(f"\n{told}")
