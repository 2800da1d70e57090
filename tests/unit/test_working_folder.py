"""No command, no unit and no process of ours runs a module or a program that lies in the working folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import pytest

from musicfs.cli.main import cli
from musicfs.system import processes
from tests.support.commands import Commands, Done, commands
from tests.support.mounting import ROOT, eventually

MUSICFS = Path(sysconfig.get_path("scripts"), "musicfs")
PROGRAMS = (
    "bash",
    "env",
    "fusermount3",
    "ldconfig",
    "mount",
    "sh",
    "ssh",
    "ssh-agent",
    "umount",
    "www-browser",
    "xdg-open",
)
CUSTOM = ("sitecustomize", "usercustomize")
UNITS = ROOT / "contrib/systemd"
PATHS = ("", ".", "bin/..", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")


class Trap:
    """A folder full of modules and programs that strangers wrote, which is also the origin and the user's home."""

    def __init__(self, user: Commands) -> None:
        self.user = user
        self.folder = user.home / "Downloaded Album"
        self.marks = user.home / "executed"
        self.mount_point = user.home / "m"
        self.config = user.home / "musicfs.toml"
        (self.folder / "bin").mkdir(parents=True)
        note = f"__import__('posix').close(__import__('posix').open({os.fspath(self.marks)!r}, 0o1101))\n"
        for name in {*sys.stdlib_module_names, *packages_distributions(), *CUSTOM} - set(sys.builtin_module_names):
            if name.isidentifier():
                (self.folder / f"{name}.py").write_text(f"# {name}\n{note}")
        for package in ("mutagen", "musicfs", "encodings"):
            (self.folder / package).mkdir()
            (self.folder / package / "__init__.py").write_text(note)
            (self.folder / package / "__main__.py").write_text(note)
        for name in PROGRAMS:
            (self.folder / name).write_text(f"#!/bin/sh\necho {name} >> {shlex.quote(os.fspath(self.marks))}\n")
            (self.folder / name).chmod(0o755)
        for number in range(40):  # More than are parsed without the parse processes.
            (self.folder / f"{number}.flac").write_bytes(b"%d is no music" % number)
        self.config.write_text(
            f'mount_point = "{self.mount_point}"\n'
            f'[[origins]]\nid = "a"\norigin_type = "local"\npath = "{self.folder}"\n'
        )
        self.env = user.env | {
            "HOME": str(self.folder),
            "PATH": os.pathsep.join(PATHS),
            "MUSICFS_CONFIG": str(self.config),
            "DISPLAY": ":9",
        }

    def keep_only(self, *modules: str) -> None:
        for module in self.folder.iterdir():
            if module.name in ("encodings", "mutagen", "musicfs"):
                shutil.rmtree(module)
            elif module.suffix == ".py" and module.stem not in modules:
                module.unlink()

    def __call__(self, *command: str | Path, **env: str) -> Done:
        done = subprocess.run(
            list(map(str, command)), env=self.env | env, cwd=self.folder, capture_output=True, text=True, check=False,
            timeout=90, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not self.marks.exists(), f"{command} ran {self.marks.read_text() or 'a module'}\n{done.stderr}"
        return done


@pytest.fixture
def trap() -> Iterator[Trap]:
    with commands() as user:
        yield Trap(user)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield path
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*path, name))


# What gets a command further than to a sentence about its arguments.
ARGUMENTS = {
    ("completion",): ("bash",),
    ("origin", "accept-removals"): ("a",),
    ("origin", "check"): ("a",),
}


@pytest.mark.parametrize("command", list(leaves(cli)), ids=" ".join)
def test_no_command_runs_what_lies_in_the_working_folder(trap: Trap, command: tuple[str, ...]) -> None:
    done = trap(MUSICFS, *command, *ARGUMENTS.get(command, ()))
    assert "internal error" not in done.stderr
    if command == ("mount",):
        assert done.returncode == 0
        for later in (("page", "--no-such-option"), ("status",), ("scan",), ("unmount",)):
            trap(MUSICFS, *later)
    if command == ("scan",):
        assert (done.returncode, "40" in done.stdout) == (0, True)


def test_the_browser_is_not_one_from_the_working_folder(trap: Trap) -> None:
    assert trap(MUSICFS, "mount").returncode == 0
    with subprocess.Popen(
        [MUSICFS, "page"], env=trap.env | {"BROWSER": "www-browser"}, cwd=trap.folder, stdout=subprocess.PIPE, text=True
    ) as page:
        assert page.stdout is not None
        assert page.stdout.readline().startswith("http://")
        eventually(lambda: Path(f"/proc/{page.pid}/cwd").readlink() == Path("/"), "the page's own working folder")
        page.send_signal(signal.SIGINT)
        page.wait(30)
    trap(MUSICFS, "unmount")


@pytest.mark.parametrize("whose", ["system", "user"])
def test_the_units_run_nothing_from_the_home_of_their_account(trap: Trap, whose: str) -> None:
    unit = (UNITS / whose / "musicfs@.service").read_text()
    assert "\nWorkingDirectory=/\n" in unit
    said = dict(re.findall(r"^(Exec\w+)=/usr/bin/env musicfs (.*)$", unit, re.MULTILINE))
    start, reload, stop = (
        [MUSICFS, *said[key].replace("%E/musicfs/%i.toml", str(trap.config)).split()]
        for key in ("ExecStart", "ExecReload", "ExecStop")
    )
    # In the account's home all the same: a unit may be changed.
    with subprocess.Popen(start, env=trap.env, cwd=trap.folder, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("Mounted on")
        assert Path(f"/proc/{service.pid}/cwd").readlink() == Path("/")
        eventually(lambda: "40 files" in trap(MUSICFS, "status").stdout, "the end of the scan")
        assert trap(*reload).returncode == 0
        assert trap(*stop).returncode == 0
        assert service.wait(30) == 0


@pytest.mark.parametrize("path", ["", ":", ".", "vendor/.."])
def test_what_an_empty_or_relative_pythonpath_names_is_not_run_by_the_processes_that_musicfs_starts(
    trap: Trap, path: str
) -> None:
    """The start of the interpreter that the user runs can't be helped: so only what comes later lies in the folder."""
    trap.keep_only("concurrent", "cProfile", "multiprocessing", "mutagen", "sqlite3", "socketserver")
    (trap.folder / "vendor").mkdir()
    done = trap(MUSICFS, "scan", PYTHONPATH=path)
    assert (done.returncode, "40" in done.stdout) == (0, True), done.stderr


def test_the_module_leaves_the_working_folder_before_it_imports_anything_else(trap: Trap) -> None:
    """What `-m` itself and the package's own `__init__` load can't be helped; nor can another package of our name."""
    trap.keep_only("asyncio", "blake3", "click", "json", "logging", "mutagen", "socket", "sqlite3", "subprocess")
    done = trap(sys.executable, "-m", "musicfs", "scan")
    assert (done.returncode, "40" in done.stdout) == (0, True), done.stderr


def test_entries_of_the_search_paths_that_stand_for_the_working_folder_are_dropped() -> None:
    given = {"PATH": "/a::.:b:/c:", "PYTHONPATH": ":.:x:/y", "OTHER": ":."}
    assert processes.environment(given) == {"PATH": "/a:/c", "PYTHONPATH": "/y", "OTHER": ":."}
    assert processes.environment({"PATH": "", "PYTHONPATH": ":."}) == {"PATH": os.defpath}
    assert processes.environment({}) == {}


def test_the_folder_that_musicfs_itself_was_loaded_from_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert processes.environment({"PYTHONPATH": "src:."}) == {"PYTHONPATH": str(ROOT / "src")}
