"""Every event has a sentence."""

from __future__ import annotations

from dataclasses import fields

import pytest

from musicfs import events
from musicfs.cli.events import sentence

KINDS = {kind.__name__: kind for kind in events.Event.__subclasses__()}
_VALUES = {"str": "word", "int": 3, "float": 1.5}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_event_is_told_in_words(kind: type[events.Event]) -> None:
    event = {"event": kind.__name__} | {f.name: _VALUES.get(str(f.type), "word") for f in fields(kind)}
    told = sentence(event)
    assert kind.__name__ not in told
    assert len(told.splitlines()) == 1


def test_a_failure_and_an_event_that_is_not_known_are_told_too() -> None:
    scan = {"event": "ScanFinished", "at": 0, "origin": "nas", "error": "it is away"}
    assert sentence(scan) == "the scan of nas failed: it is away"
    assert sentence({"event": "Other", "at": 0, "origin": "nas", "count": 2}) == "Other: origin nas, count 2"
