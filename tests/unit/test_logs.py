"""The log says what, where and how bad, in the form that its reader takes: a person, the journal, a program."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from musicfs import logs
from musicfs.cli.main import cli
from musicfs.cli.options import overrides_of
from musicfs.config import log_parts
from musicfs.config.load import load_config
from musicfs.config.log_parts import PARTS
from musicfs.config.models import LogConfig
from musicfs.logs import LogSettings
from tests.support.commands import Commands, commands, make_album
from tests.support.mounting import eventually


def written(settings: LogSettings, *told: tuple[int, str], **more: Any) -> str:
    """What these become, as (level, message)."""
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logs._Formatter(settings))
    log = logging.Logger("musicfs.federation.health")
    log.addHandler(handler)
    for level, message in told:
        log.log(level, message, **more)
    return text.getvalue()


def failure() -> Any:
    try:
        raise ValueError("so\nit went")
    except ValueError:
        return sys.exc_info()


def test_a_line_of_json_has_the_time_the_level_the_logger_the_message_and_the_origin() -> None:
    line = written(LogSettings(as_json=True), (logging.WARNING, "it\nis \udcff away"), extra={"origin": "nas"})
    assert line.count("\n") == 1
    assert line.isascii()
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("time")).tzinfo is not None
    assert told == {
        "level": "warning", "logger": "musicfs.federation.health", "message": "it\nis \udcff away", "origin": "nas",
    }  # fmt: skip
    assert "origin" not in json.loads(written(LogSettings(as_json=True), (logging.INFO, "x")))
    (line,) = written(LogSettings(as_json=True), (logging.ERROR, "x"), exc_info=failure()).splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: so\nit went")


def test_the_journal_gets_a_priority_for_each_line_and_no_time() -> None:
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    text = written(LogSettings(place="journal"), *((level, "x") for level in levels))
    assert text.splitlines() == [f"<{number}>federation.health: x" for number in (7, 6, 4, 3, 2)]
    lines = written(LogSettings(place="journal"), (logging.ERROR, "x"), exc_info=failure()).splitlines()
    assert len(lines) > 4
    assert all(line.startswith("<3>") for line in lines)
    line = written(LogSettings(place="journal", as_json=True), (logging.ERROR, "x"))
    assert line.startswith('<3>{"time": ')


def test_a_terminal_needs_no_time_and_a_file_does() -> None:
    assert written(LogSettings(), (logging.INFO, "x")) == "INFO: x\n"
    line = written(LogSettings(place="file"), (logging.INFO, "x"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO musicfs.federation.health: x\n", line)


def test_standard_error_is_the_journal_only_if_it_is_what_systemd_has_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "err").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        its = os.fstat(file.fileno())
        assert logs.place_of_stderr({"JOURNAL_STREAM": f"{its.st_dev}:{its.st_ino}"}) == "journal"
        # As in a program that a service has started with an output of its own.
        assert logs.place_of_stderr({"JOURNAL_STREAM": f"{its.st_dev}:{its.st_ino + 1}"}) == "terminal"
        assert logs.place_of_stderr({}) == "terminal"


def test_the_command_line_says_how_much_of_which_part() -> None:
    said = overrides_of(log_levels=["info", "origins.sftp=debug", "library=error"], log_format="json")
    config = load_config(overrides={**said, "origins": [{"id": "a", "origin_type": "local", "path": "/a"}]}).config
    assert config.log == LogConfig(level="info", format="json", levels={"origins.sftp": "debug", "library": "error"})
    settings = logs.settings_of(config.log, "file")
    assert settings.levels == (("musicfs.origins.sftp", logging.DEBUG), ("musicfs.library", logging.ERROR))
    assert (settings.level, settings.as_json) == (logging.INFO, True)
    assert overrides_of(verbose=1)["log.level"] == "info"
    assert overrides_of(verbose=3)["log.level"] == "debug"
    assert overrides_of(verbose=2, log_levels=["error"])["log.level"] == "error"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loud", 'log.level is "loud": use one of debug, info, warning, error.'),
        ("origins.sftp=loud", "use a table of parts and levels"),
        ("origins.stp=debug", "use a table of parts and levels"),
        ("../etc=debug", "use a table of parts and levels"),
    ],
)
def test_what_is_no_level_or_no_part_is_told(tmp_path: Path, text: str, words: str) -> None:
    done = CliRunner().invoke(cli, ["mount", "m", "--origin", str(tmp_path), "--log-level", text])
    assert words in str(done.exception)


def test_a_former_name_of_a_part_works_with_a_hint() -> None:
    said = overrides_of(log_levels=["content.blocks=debug", "library.scanner=info", "library.rows=info", "mount=info"])
    loaded = load_config(overrides={**said, "origins": [{"id": "a", "origin_type": "local", "path": "/a"}]})
    assert logs.settings_of(loaded.config.log, "file").levels == (
        ("musicfs.cache.store", logging.DEBUG),
        ("musicfs.library.scanner", logging.INFO),
        ("musicfs.mount", logging.INFO),
    )
    assert loaded.warnings == (
        'command line: log.levels names "content.blocks": this is a former name; the part is called cache now.',
        'command line: log.levels names "library.scanner": this is a former name; the part is called library now.',
        'command line: log.levels names "library.rows": nothing is logged under this name; leave it out.',
    )


def test_the_parts_are_those_of_the_documentation_and_hold_every_logger() -> None:
    page = (Path(__file__).parents[2] / "docs/CONFIGURATION.md").read_text()
    sentence = page.partition("The parts are ")[2].partition(".\n")[0].partition(". Names")[0]
    assert tuple(sorted(re.findall(r"`([a-z0-9.]+)`", sentence))) == PARTS
    package = Path(logs.__file__).parent
    for part in PARTS:
        assert (package / part.replace(".", "/")).is_dir() or part == "events"
    for path in package.rglob("*.py"):
        if "getLogger(__name__)" in path.read_text():
            module = ".".join(path.relative_to(package).with_suffix("").parts)
            assert any(f"{module}.".startswith(f"{part}.") for part in PARTS), module


def test_every_former_name_leads_to_a_module_that_logs() -> None:
    package = Path(logs.__file__).parent
    for logger in log_parts._FORMER.values():
        assert "getLogger(__name__)" in (package / f"{logger.replace('.', '/')}.py").read_text()


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "a" / "Album")
        yield user


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_mount_in_the_background_writes_its_file_as_json_its_worker_too(user: Commands) -> None:
    """The worker tells when much has gone at once; the daemon of an origin that is not there."""
    tracks = [user.home / f"b/{number}.flac" for number in range(12)]
    (user.home / "b").mkdir()
    for track in tracks:
        track.write_text(f"{track} is no music")
    origins = ("--origin", user.home / "a", "--origin", user.home / "b", "--origin", f"nas={user.home}/gone")
    cache = user.home / "its cache"
    done = user("mount", user.home / "m", *origins, "--cache-dir", cache, "--log-format", "json")
    assert done.returncode == 0
    assert user("scan").returncode == 1
    for track in tracks[1:]:
        track.unlink()
    user("scan")
    assert user("unmount").returncode == 0
    told = [json.loads(line) for line in lines(cache / "musicfs.log")]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, told))
    by = {(each["logger"], each.get("origin")) for each in told}
    assert {("musicfs.federation.health", "nas"), ("musicfs.library.removals", "b")} <= by


def test_under_systemd_each_line_has_a_priority_and_parts_have_levels_of_their_own(user: Commands) -> None:
    arguments = ("mount", user.home / "m", "--origin", user.home / "a", "--origin", f"nas={user.home}/gone")
    command = user.command(*arguments, "--foreground", "--log-level", "error", "--log-level", "federation=info")
    with (user.home / "err").open("w") as errors:
        its = os.fstat(errors.fileno())
        env = user.env | {"JOURNAL_STREAM": f"{its.st_dev}:{its.st_ino}"}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=env) as process:
            try:
                eventually(lambda: len(lines(user.home / "err")) > 2, "health of both origins")
            finally:
                process.send_signal(signal.SIGTERM)
    told = lines(user.home / "err")
    assert told.pop(0).startswith("<4>musicfs: warning: origin 'nas': path is ")
    assert all(re.match(r"<[46]>federation\.health: origin '", line) for line in told), told
    assert {line[:3] for line in told} == {"<4>", "<6>"}
