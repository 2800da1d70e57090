"""What a parser answers counts only if it can be what a parser says of a file."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from musicfs.model import Fingerprint
from musicfs.tags.parse_messages import HEADER, InvalidAnswer, answer, read_answer
from musicfs.tags.parser import Examined, dump_tags
from musicfs.tags.tags import MAX_VALUES, Tags

VALUES: dict[str, Any] = {"str": "x", "bool": True, "int": 1, "float": 1.5, "tuple[str, ...]": ["Ada", "Bob"]}
FULL = {field.name: VALUES[str(field.type).removesuffix(" | None")] for field in fields(Tags)}


def examined(tags: dict[str, Any]) -> Examined:
    return Examined(Fingerprint(b"f" * 32), dump_tags(tags), None)


def read(found: Examined) -> object:
    return read_answer(answer(found)[HEADER.size :])


def test_every_field_of_tags_arrives() -> None:
    found = examined(FULL)
    assert read(found) == found
    assert found.tags is not None
    assert Tags.from_json(json.loads(found.tags)).artists == ("Ada", "Bob")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("artists", "Ada"), ("artists", []), ("artists", [1]), ("artists", ["x"] * (MAX_VALUES + 1)),
        ("artists", [["x"]]), ("artists", ["x" * 5000]), ("title", ["x"]), ("title", 1), ("year", True), ("year", -1),
        ("duration_s", -1.0), ("unknown", "x"), ("format", "../x"),
    ],
)  # fmt: skip
def test_no_other_value_does(name: str, value: object) -> None:
    with pytest.raises(InvalidAnswer):
        read(examined(FULL | {name: value}))
