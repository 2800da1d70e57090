"""Imports point down, and each library has one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import musicfs
from tests.support.layout import Rules, Source, shared_class_names, violations

RULES = Rules(
    package="musicfs",
    layers=[
        frozenset({"testing"}),
        frozenset({"__main__"}),
        frozenset({"cli"}),
        frozenset({"daemon"}),
        frozenset({"control"}),
        frozenset({"app"}),
        frozenset({"mount"}),
        frozenset({"maintenance"}),
        frozenset({"library"}),
        frozenset({"content"}),
        frozenset({"catalog"}),
        frozenset({"federation"}),
        frozenset({"origins"}),
        frozenset({"cache"}),
        frozenset({"logs", "secrets"}),
        frozenset({"config"}),
        frozenset({"query"}),
        frozenset({"tags"}),
        frozenset({"system"}),
        frozenset({"origin"}),
        frozenset({"events"}),
        frozenset({"errors"}),
        frozenset({"model"}),
        frozenset({"problems", "texts"}),
    ],
    owners={
        "aiohttp": ("control", "origins.s3.client"),
        "botocore": "origins.s3",
        "click": "cli",
        "inotify_simple": "origins.local.watch",
        "lark": "query.syntax",
        "mutagen": "tags",
        "prometheus_client": "control.metrics",
        "pytest": "testing",
        "rapidfuzz": "catalog.search_texts",
        "re2": ("catalog.search", "query.syntax"),
        "rich": "cli",
        "smbprotocol": "origins.smb",
        "sqlite3": (
            "cache.index",
            "catalog",
            "content.checkstore",
            "maintenance.pin_store",
            "maintenance.scrub_store",
            "system.sqlite",
        ),
        "tomlkit": "config.edit",
        "xxhash": "cache.block_checksums",
    },
    most_lines=600,
)


def test_the_package_keeps_to_the_rules() -> None:
    assert violations(Source(Path(musicfs.__file__).parent), RULES) == []


def test_no_two_classes_share_a_name() -> None:
    assert shared_class_names(Source(Path(musicfs.__file__).parent)) == {}


def test_a_name_that_two_classes_share_is_found(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "one.py").write_text("class Entry: ...")
    (tmp_path / "toy" / "two.py").write_text("def f():\n    class _Entry: ...\nclass Other: ...")
    assert shared_class_names(Source(tmp_path / "toy")) == {"Entry": ["toy.one", "toy.two"]}


def test_the_session_knows_nothing_of_music_and_the_filesystem_nothing_of_fuse() -> None:
    source = Source(Path(musicfs.__file__).parent)
    session = "musicfs.mount.session"
    known = {each.target for each in source.imports if each.source.startswith(session)}
    ours = {target for target in known if target.split(".")[0] == "musicfs" and not target.startswith(session)}
    assert ours <= {"musicfs.system", "musicfs.system.processes"}
    assert not {each.target for each in source.imports if each.source == "musicfs.mount.filesystem"} & {
        target for target in known if target.startswith(session)
    }


DOES_IO = {
    "ClientSession", "connect", "exists", "mkdir", "open", "read_bytes", "read_text", "read_toml",
    "unlink", "write_bytes", "write_text",
}  # fmt: skip


def test_constructors_do_no_io() -> None:
    found = []
    for path in Path(musicfs.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        made = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        for call in (each for init in made for each in ast.walk(init) if isinstance(each, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in DOES_IO:
                found.append(f"{path.name}:{call.lineno} {name}")
    assert found == []


@pytest.mark.parametrize("module", ["musicfs", "musicfs.cli.main"])
def test_the_program_starts_without_its_heavy_parts(module: str) -> None:
    assert _loaded(module) & HEAVY == set()


def test_the_process_of_a_mount_loads_nothing_of_what_makes_the_tree() -> None:
    """That is the library worker's, and would cost each mount 40 ms and 3 MB."""
    workers = {
        "musicfs.catalog.writer", "musicfs.library.placement", "musicfs.library.renderings", "musicfs.library.scanner",
        "musicfs.library.tree", "musicfs.tags.formats", "musicfs.tags.parser", "musicfs.tags.playlists", "xml.sax",
    }  # fmt: skip
    loaded = _loaded("musicfs.daemon.process")
    assert "musicfs.app.app" in loaded
    assert loaded & (HEAVY | workers) == set()


HEAVY = {"aiohttp", "mutagen", "prometheus_client", "pytest", "rich", "yaml"}


def _loaded(module: str) -> set[str]:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


# The checker itself

SMALL = Rules("toy", [frozenset({"top"}), frozenset({"left", "right"}), frozenset({"base"})], {"json": "base"}, 5)
GOOD = {"top": "from toy import left\nimport toy.base", "left.one": "from . import two", "left.two": "", "base": ""}


def toy(folder: Path, modules: Mapping[str, str]) -> list[str]:
    for module, text in ({"": ""} | dict(modules)).items():
        package = not module or any(other.startswith(f"{module}.") for other in modules)
        path = folder / "toy" / module.replace(".", "/")
        path = path / "__init__.py" if package else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for parent in {path.parent for path in folder.rglob("*.py")}:
        (parent / "__init__.py").touch()
    return violations(Source(folder / "toy"), SMALL)


def test_a_tree_in_order_has_no_violations(tmp_path: Path) -> None:
    assert toy(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("base", "from toy.top import x", "toy.base:1 imports toy.top, which is not below it"),
        ("base", "def f():\n    import toy.left.one", "toy.base:2 imports toy.left.one, which is not below it"),
        ("base", "from . import top", "toy.base:1 imports toy.top, which is not below it"),
        ("left.two", "from toy import right", "toy.left.two:1 imports toy.right, which is not below it"),
        ("left.two", "from ..top import x", "toy.left.two:1 imports toy.top, which is not below it"),
        (
            "base",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import toy.top",
            "toy.base:3 imports toy.top, which is not below it",
        ),
        ("left.two", "from toy.left.one import x", "cycle: toy.left.one -> toy.left.two -> toy.left.one"),
        ("left.two", "def f():\n    from .one import x", "cycle: toy.left.one -> toy.left.two -> toy.left.one"),
        (
            "left.two",
            "import typing\nif typing.TYPE_CHECKING:\n    from toy.left.one import x",
            "cycle: toy.left.one -> toy.left.two -> toy.left.one",
        ),
        ("left.two", "import json.decoder", "toy.left.two:1 imports json.decoder, which only base may"),
        ("odd", "", "toy.odd belongs to no layer"),
        ("base", "\n" * 6, "toy.base has 6 lines, more than 5"),
        ("", "import toy.top", "toy:1 imports toy.top, which is not below it"),
    ],
)
def test_what_breaks_a_rule_is_told(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    assert complaint in toy(tmp_path, GOOD | {"right": ""} | {module: text})


def test_a_library_goes_to_its_owner(tmp_path: Path) -> None:
    assert toy(tmp_path, GOOD | {"base": "import json"}) == []
