"""A configuration file is edited as its owner would: nothing else in it changes, and it is never lost."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from musicfs.config.edit import ConfigFile
from musicfs.errors import ConfigError, UserError

TEXT = """\
# my music
mount_point = "/m"  # here

[[origins]] # the disk
id = "disk"   # fast
origin_type = "local"
path = "/a"
# priority = 5

# the nas, behind the couch
[[origins]]
id = "nas"
origin_type = "local"
path = "/b"
priority = 2  # second

# how often
[health]
timeout_ms = 100
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "musicfs.toml"
    path.write_text(TEXT)
    return path


def test_a_value_that_is_there_is_replaced_in_its_place(path: Path) -> None:
    file = ConfigFile.read(path)
    file.set("nas", "priority", 9)
    file.save()
    assert path.read_text() == TEXT.replace("priority = 2 ", "priority = 9 ")


def test_a_new_value_stands_with_its_origin_and_the_comments_with_what_they_are_about(path: Path) -> None:
    file = ConfigFile.read(path)
    file.set("disk", "enabled", False)
    file.save()
    assert path.read_text() == TEXT.replace("# priority = 5\n", "# priority = 5\nenabled = false\n")


def test_an_origin_is_added_after_the_others(path: Path) -> None:
    file = ConfigFile.read(path)
    file.add({"path": Path("/c d"), "priority": 3, "id": "new", "origin_type": "local"})
    file.save()
    new = '[[origins]]\nid = "new"\norigin_type = "local"\npriority = 3\npath = "/c d"\n\n'
    assert path.read_text() == TEXT.replace("# how often", f"{new}# how often")


@pytest.mark.parametrize("id", ["disk", "nas"])
def test_an_origin_is_removed_and_no_comment_on_another(path: Path, id: str) -> None:
    file = ConfigFile.read(path)
    file.remove(id)
    file.save()
    text = path.read_text()
    assert [table["id"] for table in tomllib.loads(text)["origins"]] == ["nas" if id == "disk" else "disk"]
    for comment in ("# my music", "# here", "# the nas, behind the couch", "# how often"):
        assert comment in text
    assert text.index("# how often") < text.index("[health]")


def test_adding_and_removing_leaves_the_file_as_it_was(path: Path) -> None:
    file = ConfigFile.read(path)
    file.add({"id": "new", "origin_type": "local", "path": "/c"})
    file.save()
    file = ConfigFile.read(path)
    file.remove("new")
    file.save()
    assert path.read_text() == TEXT


@pytest.mark.parametrize(
    "text",
    [
        'origins = [{id = "disk", path = "/a"}, {id = "nas", path = "/b"}]\n[health]\ntimeout_ms = 1\n',
        '[[origins]]\nid = "disk"\n[health]\ntimeout_ms = 1\n[[origins]]\nid = "nas"\n',
        '\ufeff[[origins]]\r\nid = "disk"\r\n\r\n# x\r\n[[origins]]\r\nid = "nas"\r\npath = """\r\n[[origins]]"""',
        '[[ "origins" ]]\nid = "disk"\n[origins.deep]\nx = [[1], [2]]\n[[origins]]\nid = "nas" # last, no line end',
    ],
    ids=["inline", "in pieces", "of another system", "strange"],
)
def test_any_layout_is_edited_rightly_or_left_alone(path: Path, text: str) -> None:
    path.write_text(text, newline="")
    before = tomllib.loads(text.removeprefix("\ufeff"))["origins"]
    for edit in ("set", "add", "remove"):
        path.write_text(text, newline="")
        file = ConfigFile.read(path)
        wanted = [dict(table) for table in before]
        if edit == "set":
            file.set("disk", "priority", 7)
            wanted[0]["priority"] = 7
        elif edit == "add":
            file.add({"id": "new"})
            wanted.append({"id": "new"})
        else:
            file.remove("disk")
            del wanted[0]
        try:
            file.save()
        except UserError:
            assert path.read_bytes().decode() == text
        else:
            now = path.read_bytes().decode()
            assert now.startswith("\ufeff") == text.startswith("\ufeff")
            assert tomllib.loads(now.removeprefix("\ufeff"))["origins"] == wanted


def test_secrets_are_not_written(path: Path) -> None:
    file = ConfigFile.read(path)
    file.add({"id": "new", "origin_type": "smb", "password": "geheim", "password_file": "/p"})
    assert "geheim" not in file.text()
    assert 'password_file = "/p"' in file.text()


def test_an_id_is_not_given_twice(path: Path) -> None:
    with pytest.raises(UserError, match="has an origin 'nas' already"):
        ConfigFile.read(path).add({"id": "nas"})


def test_a_file_that_is_no_toml_is_refused(path: Path) -> None:
    path.write_text("origins = [")
    with pytest.raises(ConfigError):
        ConfigFile.read(path)


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(path: Path) -> None:
    file = ConfigFile.read(path)
    path.write_text(TEXT + "# mine\n")
    file.remove("nas")
    with pytest.raises(UserError, match="changed by another program"):
        file.save()
    assert path.read_text() == TEXT + "# mine\n"


def test_a_link_stays_a_link_and_the_permissions_stay(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(path.name)
    path.chmod(0o640)
    file = ConfigFile.read(link)
    file.remove("nas")
    file.save()
    assert link.is_symlink()
    assert "nas" not in [table["id"] for table in tomllib.loads(path.read_text())["origins"]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_is_found_wanting_is_not_put_in_place(path: Path) -> None:
    def check(new: Path) -> None:
        assert "nas" not in ConfigFile.read(new).ids()
        raise ConfigError(["no"])

    file = ConfigFile.read(path)
    file.remove("nas")
    with pytest.raises(ConfigError):
        file.save(check)
    assert path.read_text() == TEXT
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208
