"""A read stays short: it enters few modules, and moves between them as seldom as it does today."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.read_path import Trace, trace_reads


@pytest.fixture
async def traces(tmp_path: Path) -> dict[str, Trace]:
    return await trace_reads(tmp_path)


async def test_reads_enter_few_modules_and_move_seldom_between_them(traces: dict[str, Trace]) -> None:
    # With room for a module and a few moves, because a thread that answers late lets other work run first. A later hit
    # on disk takes seven modules and six moves where the kernel reads without waiting, which not every disk can.
    limits = {
        "a miss": (26, 76),
        "a hit in memory": (6, 7),
        "a later miss": (21, 55),
        "a hit on disk": (12, 37),
        "a later hit on disk": (12, 37),
    }
    counted = {kind: (len(set(trace.modules)), trace.moves) for kind, trace in traces.items()}
    assert counted.keys() == limits.keys()
    assert not {
        kind: (modules, moves)
        for kind, (modules, moves) in counted.items()
        if modules > limits[kind][0] or moves > limits[kind][1]
    }
