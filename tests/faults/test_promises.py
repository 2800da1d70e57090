"""A fixed stretch of what `python -m tests.faults` goes on with for as long as asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import promises
from tests.faults.promises import KINDS, run
from tests.support.mounting import account
from tests.support.servers.swift import Swift

STEPS = 40
SEED = 9


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [3])
def test_whatever_fails_the_four_promises_hold(seed: int, swift: Swift, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(account("ordinary"), KINDS, seed, lambda done: done < STEPS, swift)
    with capsys.disabled():
        print(f"\n{told}")


@pytest.mark.timeout(300)
def test_a_broken_promise_is_found_and_its_schedule_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here somebody writes to an origin, where only a bit was to flip."""

    def write(path: Path, at: int) -> None:
        path.write_bytes(b"other music")

    def story() -> str:
        with pytest.raises(AssertionError) as broken:
            run(account("ordinary"), ["local", "local"], SEED, lambda done: done < 100)
        return str(broken.value)

    monkeypatch.setattr(promises, "_ALBUMS", 2)
    monkeypatch.setattr(promises, "rot", write)
    first = story()
    assert first.startswith(f"seed {SEED}, kinds local local:\n   1 ")
    assert first.splitlines()[-1].startswith("changed at an origin: [('local")
    assert story() == first
