"""docs/PLUGINS.md keeps to the code: its tables are complete, and the test that it shows runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import musicfs.testing
from musicfs import origin
from musicfs.origin import Origin
from musicfs.origins import helpers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/PLUGINS.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The names in backticks in the rows of the table whose first column has this heading, without its last column."""
    body = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`(\w+)`", "|".join(row.split("|")[1:-2])) for row in body]


def methods(protocol: type) -> list[str]:
    return [name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")]


def test_every_method_of_a_driver_is_on_the_page() -> None:
    assert [name for row in table("method") for name in row] == methods(Origin)
    assert "two properties, `id` and `kind`, and six methods" in PAGE
    assert len(methods(Origin)) == 6


def test_every_optional_capability_is_on_the_page() -> None:
    offered = [
        [name, *methods(value)]
        for name, value in vars(origin).items()
        if getattr(value, "_is_runtime_protocol", False) and value.__module__ == origin.__name__
    ]
    assert sorted(table("protocol")) == sorted(offered)


def test_every_helper_is_on_the_page() -> None:
    assert sorted(name for row in table("helper") for name in row) == sorted(helpers.__all__)


def test_the_version_of_the_interface_is_on_the_page() -> None:
    assert f"`musicfs.origin.INTERFACE_VERSION`, now {origin.INTERFACE_VERSION}." in PAGE
    assert f"interface={origin.INTERFACE_VERSION}" in PAGE


def test_the_suites_are_on_the_page() -> None:
    for name in ("OriginContract", "FoldersContract", "RemoteFaults", "FolderEnv", "FaultProxy"):
        assert name in musicfs.testing.__all__
        assert f"`{name}`" in PAGE


def test_the_test_that_the_page_shows_runs_away_from_our_sources(tmp_path: Path) -> None:
    """For the kind `local` in the place of the tape."""
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_tape.py").write_text(
        code.replace('"drive"', '"path"').replace('"origin_type": "tape"', '"origin_type": "local"')
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    chosen = "stat_agrees or empty_file or replaced_since or absence_removes"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^6 passed", done.stdout, re.MULTILINE), done.stdout


def test_the_proxy_and_the_ports_need_no_pytest() -> None:
    """The demo installs no test tools, and uses them."""
    code = (
        "import sys; sys.modules['pytest'] = None; import demo.run; from musicfs.testing import FaultProxy, free_port"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
