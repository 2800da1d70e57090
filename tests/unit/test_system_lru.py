"""A mapping that keeps what was used last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from musicfs.system.lru import Lru


def test_what_was_used_longest_ago_leaves_first() -> None:
    kept: Lru[str, int] = Lru(2)
    assert kept.put("a", 1) is None
    assert kept.put("b", 2) is None
    assert kept.use("a") == 1
    assert kept.put("c", 3) == ("b", 2)
    assert kept.use("b") is None
    assert list(kept.items()) == [("a", 1), ("c", 3)]


def test_a_value_that_is_replaced_drives_out_nothing() -> None:
    kept: Lru[str, int] = Lru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.put("a", 3) is None
    assert kept.put("c", 4) == ("b", 2)
    assert kept.get("a") == 3


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_it_keeps_the_keys_that_were_used_last(limit: int, steps: list[tuple[bool, int]]) -> None:
    kept: Lru[int, int] = Lru(limit)
    model: list[int] = []
    for is_put, key in steps:
        if is_put:
            kept.put(key, key)
        else:
            assert kept.use(key) == (key if key in model else None)
        if is_put or key in model:
            model = [*(each for each in model if each != key), key][-limit:]
        assert list(kept) == model
