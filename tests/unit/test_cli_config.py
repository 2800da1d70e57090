"""`musicfs config check`, and what is refused before a mount is tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.cli.options import load
from musicfs.errors import ConfigError
from tests.support.commands import Commands, commands


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        yield user


def _config(user: Commands, path: Path, more: str = "") -> Path:
    file = user.home / "musicfs.toml"
    file.write_text(
        f'mount_point = "{user.home}/m"\n{more}\n[[origins]]\nid = "laptop"\norigin_type = "local"\npath = "{path}"\n'
    )
    return file


def test_a_good_file_is_called_fine(user: Commands) -> None:
    (user.home / "music").mkdir()
    file = _config(user, user.home / "music")
    done = user("config", "check", file)
    assert (done.returncode, done.stdout) == (0, f"{file} is fine: origins laptop, preferred ones first.\n")
    assert user.json("config", "check", file) == {
        "file": str(file),
        "ok": True,
        "problems": [],
        "warnings": [],
        "origins": [{"id": "laptop", "kind": "local", "priority": 100, "enabled": True}],
    }


def test_every_problem_is_told_at_once(user: Commands) -> None:
    file = _config(user, user.home, 'mountpoint = "/x"\n[health]\ntimeout_ms = 0')
    done = user("config", "check", file)
    assert done.returncode == 2
    assert "mountpoint" in done.stdout
    assert "health.timeout_ms" in done.stdout
    assert f"2 problems in {file}." in done.stdout


def test_a_folder_that_is_not_there_is_a_problem_of_the_file(user: Commands) -> None:
    file = _config(user, user.home / "gone")
    answer = user.json("config", "check", file)
    assert not answer["ok"]
    assert "which does not exist" in answer["problems"][0]


def test_an_unknown_field_of_the_template_is_a_problem(user: Commands) -> None:
    file = _config(user, user.home, '[tree]\ntemplate = "$bogus"')
    done = user("config", "check", file)
    assert done.returncode == 2
    assert "$bogus" in done.stdout


def test_a_missing_file_is_a_problem_and_no_crash(user: Commands) -> None:
    done = user("config", "check", user.home / "gone.toml")
    assert done.returncode == 2
    assert "there is no such file" in done.stdout


@pytest.mark.parametrize(
    ("mount_point", "origin"), [("music", "music"), ("music/m", "music"), ("m", "m/music"), ("link/m", "music")]
)
def test_a_mount_and_an_origin_that_overlap_are_refused(mount_point: str, origin: str, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "link").symlink_to("music")
    with pytest.raises(ConfigError, match="overlap"):
        load(mount_point=tmp_path / mount_point, origins=[str(tmp_path / origin)])


def test_folders_beside_each_other_do_not_overlap(tmp_path: Path) -> None:
    loaded = load(mount_point=tmp_path / "music2", origins=[str(tmp_path / "music"), f"b={tmp_path}/other"])
    assert [(o.id, o.priority) for o in loaded.config.origins] == [("music", 1), ("b", 2)]


def test_a_mount_point_behind_a_link_is_known_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "music").mkdir()
    loaded = load(mount_point=tmp_path / "link", origins=[str(tmp_path / "music")])
    assert loaded.config.mount_point == tmp_path / "real"


def test_origins_are_changed_in_the_file_while_nothing_is_mounted(user: Commands) -> None:
    file = _config(user, user.home / "music", "# mine")
    for words, done in (
        (("add", user.home / "nas"), f"Origin 'nas' is added to {file}."),
        (("set-priority", "nas", "7"), f"{file} now has priority = 7 for origin 'nas'."),
        (("disable", "nas"), f"{file} now has enabled = false for origin 'nas'."),
        (("remove", "laptop"), f"Origin 'laptop' is removed from {file}."),
    ):
        assert user("origin", *words, "--config", file).stdout == f"{done}\n"
    [nas] = load(config_file=file).config.origins
    assert (nas.id, nas.priority, nas.enabled, nas.settings["path"]) == ("nas", 7, False, user.home / "nas")
    assert "# mine" in file.read_text()


def test_a_change_that_would_spoil_the_file_is_not_made(user: Commands) -> None:
    file = _config(user, user.home / "music")
    before = file.read_bytes()
    done = user("origin", "remove", "laptop", "--config", file)
    assert (done.returncode, "There is no music yet" in done.stderr) == (2, True)
    done = user("origin", "add", user.home / "m" / "x", "--config", file)
    assert (done.returncode, "overlap" in done.stderr) == (2, True)
    assert file.read_bytes() == before
