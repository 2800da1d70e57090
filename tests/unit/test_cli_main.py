"""Exit codes, and what becomes of failures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import musicfs
from musicfs.cli.main import cli, main
from musicfs.errors import ConfigError, UserError
from tests.support.commands import Commands, commands
from tests.unit.test_docs import parse


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        yield user


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `fail` that raises what is put in the list."""
    errors: list[BaseException] = []

    @click.command()
    def fail() -> None:
        raise errors[0]

    monkeypatch.setitem(cli.commands, "fail", fail)
    return errors


def test_every_command_explains_itself() -> None:
    """Help needs no mount, no configuration and no man page: each option and argument is explained, and each command
    shows an example, which is right."""
    for names, command in every_command():
        result = CliRunner().invoke(cli, [*names, "--help"])
        assert result.exit_code == 0
        assert "Usage: " in result.output
        assert command.help
        context = click.Context(command)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (names, parameter.name)
            elif "{" not in (shown := parameter.make_metavar(context).strip("[].")):  # which lists what it may be
                assert shown in f"{command.help} {command.epilog}", (names, shown)
        if not isinstance(command, click.Group):
            examples = re.findall(r"^ *(?:ssh .* )?(musicfs .*)$", command.help, re.MULTILINE)
            assert any(line.startswith(" ".join(("musicfs", *names))) for line in examples) or "completion" in names
            for line in examples:
                parse(re.split(r" [|>] ", line)[0])


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    todo: list[tuple[tuple[str, ...], click.Command]] = [((), cli)]
    while todo:
        names, command = todo.pop()
        yield names, command
        if isinstance(command, click.Group):
            todo += [((*names, name), inner) for name, inner in command.commands.items()]


def test_every_command_and_every_option_can_be_completed() -> None:
    shell = ShellComplete(cli, {}, "musicfs", "_MUSICFS_COMPLETE")
    for names, command in every_command():
        if isinstance(command, click.Group):
            assert {each.value for each in shell.get_completions(list(names), "")} >= set(command.commands), names
        options = {name for each in command.params for name in each.opts if name.startswith("--")}
        assert {each.value for each in shell.get_completions(list(names), "--")} >= options, names
    values = {each.value for each in shell.get_completions(["mount", "--log-format"], "")}
    assert values == {"text", "json"}


@pytest.mark.parametrize("group", [[], ["cache"], ["origin"]])
def test_a_group_without_a_command_shows_its_help_as_it_is(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(group) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: musicfs")
    assert "\nCommands:\n" in told
    assert "\\" not in told.splitlines()[0]


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert result.output == f"musicfs {musicfs.__version__}\n"


def test_a_user_error_is_one_sentence_and_exit_code_1(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(UserError("The nas is off; turn it on."))
    assert main(["fail"]) == 1
    assert capsys.readouterr().err == "musicfs: The nas is off; turn it on.\n"


def test_each_problem_of_a_configuration_has_its_line_and_the_exit_code_is_2(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ConfigError(["One thing.", "Another."]))
    assert main(["fail"]) == 2
    assert capsys.readouterr().err == "musicfs: One thing.\nmusicfs: Another.\n"


def test_an_unexpected_error_is_one_sentence_that_names_the_way_to_the_details(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(RuntimeError("boom"))
    assert main(["fail"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "musicfs: MusicFS hit an internal error: RuntimeError: boom; run again with --debug for the details.\n"
    )


def test_debug_shows_the_traceback_also_at_the_end_of_the_line(user: Commands) -> None:
    code = (
        "import musicfs.system.runtime as r; r.control_sockets = None;"
        " from musicfs.cli.main import main; main(['status'%s])"
    )
    for arguments, traceback in (("", False), (", '--debug'", True)):
        command = [user.command()[0], "-c", code % arguments]
        done = subprocess.run(command, env=user.env, capture_output=True, text=True, check=False)
        assert ("Traceback" in done.stderr) is traceback


def test_an_interruption_is_one_line_and_exit_code_130(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert capsys.readouterr().err.strip() == "musicfs: interrupted."


@pytest.mark.parametrize("arguments", [["bogus"], ["status", "--bogus"], ["why"], ["config", "check"]])
def test_wrong_usage_is_exit_code_2_and_names_the_help(arguments: list[str], user: Commands) -> None:
    done = user(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--help` shows how." in done.stderr
    assert done.stdout == ""


def test_a_reader_that_goes_away_is_no_error(user: Commands) -> None:
    with subprocess.Popen(
        user.command("--help"), env=user.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_nothing_heavy_is_imported_until_a_command_needs_it(user: Commands) -> None:
    heavy = ("rich", "aiohttp", "pydantic", "asyncio")
    code = f"import sys, musicfs.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([user.command()[0], "-c", code], env=user.env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_without_a_mount_say_how_to_get_one(user: Commands) -> None:
    for arguments in (["status"], ["unmount"], ["origin", "list"], ["scan"]):
        done = user(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "musicfs: Nothing is mounted; `musicfs mount FOLDER --origin PATH` mounts your music.\n"
    done = user("status", "/nowhere")
    assert "`musicfs mount /nowhere --origin PATH`" in done.stderr


def test_mounting_without_music_or_without_a_place_is_wrong_usage(user: Commands, tmp_path: Path) -> None:
    assert user("mount", tmp_path / "m").returncode == 2
    done = user("mount", "--origin", tmp_path)
    assert done.returncode == 2
    assert "Say where to mount" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_learn_to_complete_our_commands(user: Commands, shell: str) -> None:
    done = user("completion", shell)
    assert done.returncode == 0
    assert f"_MUSICFS_COMPLETE={shell}_complete" in done.stdout
    words = {"COMP_WORDS": "musicfs sta", "COMP_CWORD": "1" if shell != "fish" else "sta"}
    assert "status" in user(_MUSICFS_COMPLETE=f"{shell}_complete", **words).stdout


def test_levels_and_parts_of_the_log_are_completed() -> None:
    shell = ShellComplete(cli, {}, "musicfs", "_MUSICFS_COMPLETE")

    def offered(incomplete: str) -> set[str]:
        return {each.value for each in shell.get_completions(["mount", "--log-level"], incomplete)}

    assert {"debug", "info", "warning", "error", "origins.sftp="} <= offered("")
    assert offered("origins.sftp=d") == {"origins.sftp=debug"}
    assert offered("w") == {"warning"}
