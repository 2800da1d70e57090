"""The documentation is true: its links resolve, its commands parse, the tests and settings that it names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from musicfs import events
from musicfs.cli.main import cli
from musicfs.config.load import load_config
from musicfs.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for pattern in ("*.md", ".github/**/*.md", "docs/**/*.md", "examples/*/*.md", "requirements/*.md")
    for page in sorted(ROOT.glob(pattern))
]
# Pages whose every promise names the test that holds it.
PROMISING = [ROOT / "SECURITY.md", ROOT / "docs/SEMANTICS.md"]
TEST_NAME = re.compile(r"((?:tests|src/musicfs/testing)/[\w/]+\.py)(?:::\w+)*?::(test_\w+)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Words of a synopsis, and what stands in for them.
STAND_INS = {
    "N": "1",
    "MOUNTPOINT": "m",
    "MOUNT_POINT": "m",
    "PATH": "p",
    "ID": "nas",
    "FILE": "f",
    "DIR": "d",
    "SECONDS": "5",
    "RATE": "2MB/s",
    "SHELL": "bash",
    "...": "",
}


def pages(paths: list[Path] = PAGES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pages()
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", prose(file.read_text()), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{page.name} links to {target}"


@pages()
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in TEST_NAME.findall(page.read_text()):
        assert (ROOT / path).is_file(), f"{page.name} names {path}"
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), f"{page.name} names {path}::{name}"


def promises(text: str) -> Iterator[str]:
    """The promises of a page: paragraphs that begin in bold, and the items of lists that follow a line `Promised:`."""
    promised = False
    for part in re.split(r"\n{2,}|\n(?=- )", text):
        if part.startswith("**") or (promised and part.startswith("- ")):
            yield part
        else:
            promised = part == "Promised:"


@pages(PROMISING)
def test_every_promise_names_a_test(page: Path) -> None:
    found = list(promises(page.read_text()))
    assert len(found) > 15
    assert [promise for promise in found if not TEST_NAME.search(promise)] == []


def test_a_promise_without_a_test_is_found() -> None:
    good = "Promised:\n\n- **One.** `tests/a.py::test_a`\n"
    page = f"## Users\n\n{good}- Two\n  goes on.\n\nNot promised:\n\n- Three.\n\n**Four.** Five"
    assert [each for each in promises(page) if not TEST_NAME.search(each)] == ["- Two\n  goes on.", "**Four.** Five"]


@pages()
def test_every_file_of_the_project_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`(?:\./)?((?:src|scripts|tests|docs|bench|demo|examples)/[\w/.*-]+)`", page.read_text()):
        assert any(ROOT.glob(name)), f"{page.name} names {name}"


def test_every_module_that_the_architecture_names_exists() -> None:
    package = ROOT / "src/musicfs"
    rooms = "|".join(each.name for each in package.iterdir() if each.is_dir())
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    named = re.findall(rf"`((?:{rooms})/[\w/.]+)`", text)
    assert len(named) > 30
    assert [name for name in named if not (package / name).exists()] == []
    files = {path.name for path in package.rglob("*")}
    assert [name for name in re.findall(r"`(\w+\.(?:py|sql))`", text) if name not in files] == []


def commands(text: str) -> Iterator[str]:
    """The command lines of `musicfs` in code: of blocks, of indented lines, and in backticks."""
    blocks = [body for language, body in BLOCK.findall(text) if language in ("", "sh", "bash", "console")]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^(?: {4}|\t)(.*)$", prose(text), re.MULTILINE)
    for line in lines:
        found = re.match(r"\s*(?:\$ )?(musicfs [a-z-].*)", line)
        if found:
            yield found[1]
    yield from re.findall(r"`(musicfs [a-z-][^`]*)`", prose(text))


def parse(line: str) -> None:
    """Parses a command line as `musicfs` would, without running it."""
    line = re.sub(r"[\[\]]", "", line.partition("   #")[0].partition(" | ")[0])
    words = [STAND_INS.get(word, word) for word in shlex.split(line)][1:]
    command: click.Command = cli
    context = click.Context(command, info_name="musicfs")
    words = [word for word in words if word]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"there is no command {words[0]!r}"
        command, words = inner, words[1:]
        context = click.Context(command, context, info_name=command.name)
    if not isinstance(command, click.Group) and words:
        command.parse_args(context, words)


@pages()
def test_every_command_line_parses(page: Path) -> None:
    for line in commands(page.read_text()):
        try:
            parse(line)
        except (click.ClickException, AssertionError) as error:
            pytest.fail(f"{page.name}: {line}: {error}")


def test_a_command_line_that_is_wrong_is_found_out() -> None:
    for line in ("musicfs mont ~/Tunes", "musicfs mount --orign x", "musicfs origin chek nas", "musicfs status a b"):
        with pytest.raises((click.UsageError, AssertionError)):
            parse(line)


def test_there_are_command_lines_to_check() -> None:
    assert len([line for page in PAGES for line in commands(page.read_text())]) > 20


@pages()
def test_every_configuration_that_is_shown_loads(page: Path, tmp_path: Path) -> None:
    for number, body in enumerate(body for language, body in BLOCK.findall(page.read_text()) if language == "toml"):
        file = tmp_path / f"{number}.toml"
        file.write_text(
            body if "[[origins]]" in body else body + '\n[[origins]]\nid="a"\norigin_type="local"\npath="/a"\n'
        )
        try:
            load_config(file)
        except ConfigError as error:
            pytest.fail(f"{page.name}: {error}\n{body}")


def test_every_event_and_each_of_its_fields_is_described() -> None:
    described = {
        name: set(re.findall(r"`(\w+)`", fields))
        for name, fields in re.findall(
            r"^\| `(\w+)` \| ([^|]*) \|", (ROOT / "docs/EVENTS.md").read_text(), re.MULTILINE
        )
    }
    assert described == {
        event.__name__: set(event.__dataclass_fields__) - {"at"} for event in events.Event.__subclasses__()
    }


def test_the_promise_is_one() -> None:
    """The four sentences stand on the first page in short and at the top of SEMANTICS.md in full."""
    readme, semantics = ((ROOT / name).read_text() for name in ("README.md", "docs/SEMANTICS.md"))
    for sentence in re.findall(r"^\d\. \*\*(.*?)\.\*\*", semantics, re.MULTILINE):
        assert sentence.lower() in readme.lower()
    assert len(re.findall(r"^\d\. \*\*", semantics, re.MULTILINE)) == 4
