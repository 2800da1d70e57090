"""The pinned packages are those that pyproject.toml asks for, each with its hashes, and suit every machine."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import musicfs

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Pin(NamedTuple):
    requirement: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        (only,) = self.requirement.specifier
        assert only.operator == "=="
        return only.version


def pins(text: str) -> Iterator[Pin]:
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:
        requirement, *hashes = line.split(" --hash=")
        yield Pin(Requirement(requirement), [each.strip() for each in hashes])


def pinned(name: str, python: str) -> dict[str, str]:
    """Each package of requirements/NAME.txt that a Python on Linux installs, and its version."""
    where = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    return {
        canonicalize_name(pin.requirement.name): pin.version
        for pin in pins((ROOT / f"requirements/{name}.txt").read_text())
        if pin.requirement.marker is None or pin.requirement.marker.evaluate(where)
    }


def wanted(extra: str) -> Iterator[Requirement]:
    """What the project and one of its extras need, with the extras that this one names."""
    yield from map(Requirement, PROJECT["dependencies"])
    extras = [extra]
    for each in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][each]):
            if requirement.name == PROJECT["name"]:
                extras += requirement.extras
            else:
                yield requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["all", "demo", "dev"])
def test_every_dependency_is_pinned_within_its_bounds(name: str, python: str) -> None:
    found = pinned(name, python)
    wrong = {
        str(requirement): found.get(canonicalize_name(requirement.name))
        for requirement in wanted(name)
        if not requirement.specifier.contains(found.get(canonicalize_name(requirement.name), "0"))
    }
    assert wrong == {}, "run scripts/lock"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["all", "build", "demo"])
def test_what_is_tested_is_what_is_installed(name: str, python: str) -> None:
    tested, installed = pinned("dev", python), pinned(name, python)
    assert {each: installed[each] for each in tested.keys() & installed.keys()} == {
        each: tested[each] for each in tested.keys() & installed.keys()
    }


@pytest.mark.parametrize("name", ["build", "swift", "tools"])
def test_what_an_input_asks_for_is_pinned(name: str) -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / f"requirements/{name}.in").read_text().splitlines()]
    found = pinned(name, "3.11")
    for requirement in [Requirement(line) for line in lines if line]:
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_a_hash_and_no_file_names_a_registry_or_a_path(lock: Path) -> None:
    text = lock.read_text()
    assert [pin.requirement.name for pin in pins(text) if not pin.hashes] == []
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for pin in pins(text) for each in pin.hashes)
    assert re.findall(r"://|^-.*|file:.*", text, re.MULTILINE) == []


def test_the_version_has_one_source() -> None:
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", musicfs.__version__)
    assert metadata.version("musicfs") == musicfs.__version__
