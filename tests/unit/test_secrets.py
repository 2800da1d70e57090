"""Where secrets come from, and that they are never shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from musicfs.config.kinds import find_kind
from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.config.sources import SECRET_KEYS
from musicfs.errors import UserError
from musicfs.model import OriginId, OriginType


def config(**settings: object) -> OriginConfig:
    return OriginConfig(id=OriginId("my-nas"), origin_type=OriginType.SMB, settings=settings)


def test_the_variable_is_the_id_in_capitals_with_underscores() -> None:
    assert variable_of("my-nas", "password") == "MUSICFS_MY_NAS_PASSWORD"


def test_the_environment_comes_before_the_file_and_the_file_before_the_literal(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from file\n")
    file.chmod(0o600)
    all_three = config(password="literal", password_file=str(file))
    environ = {"MUSICFS_MY_NAS_PASSWORD": "from environment"}
    assert find_secret(all_three, "password", environ) == SecretStr("from environment")
    assert find_secret(all_three, "password", {}) == SecretStr("from file")
    assert find_secret(config(password="literal"), "password", {}) == SecretStr("literal")
    assert find_secret(config(), "password", {}) is None


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring with what a test puts there."""
    held: dict[tuple[str, str], str] = {}
    module = ModuleType("keyring")
    monkeypatch.setattr(module, "get_password", lambda service, user: held.get((service, user)), raising=False)
    monkeypatch.setitem(sys.modules, "keyring", module)
    return held


def test_the_keyring_is_asked_when_nothing_else_has_it(keyring: dict[tuple[str, str], str]) -> None:
    keyring["musicfs", "my-nas/password"] = "from keyring"
    assert find_secret(config(), "password", {}) == SecretStr("from keyring")
    assert find_secret(config(password="literal"), "password", {}) == SecretStr("literal")
    assert find_secret(config(), "passphrase", {}) is None


def test_a_keyring_that_fails_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("keyring")  # without the function, as any failure would do
    monkeypatch.setitem(sys.modules, "keyring", module)
    assert find_secret(config(), "password", {}) is None


def test_a_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hush")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600") as caught:
        find_secret(config(password_file=str(file)), "password", {})
    assert "hush" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        find_secret(config(password_file=str(tmp_path / "none")), "password", {})


def test_a_literal_secret_is_not_in_the_repr() -> None:
    found = find_secret(config(password="hush"), "password", {})
    assert "hush" not in repr(found)
    assert "hush" not in repr(config(password="hush"))


@pytest.mark.parametrize("kind", ["local", "nfs", "smb", "sftp", "s3", "webdav"])
def test_a_file_may_hold_each_secret_of_each_kind(kind: str) -> None:
    keys = set(find_kind(OriginType(kind)).settings.model_fields)
    assert {f"{key}_file" for key in keys & SECRET_KEYS} <= keys


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_that_another_user_could_have_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "secret"
    file.parent.mkdir(mode=0o700)
    file.write_text("hush")
    file.chmod(0o600)
    file.parent.chmod(0o777)
    with pytest.raises(UserError, match=f"`chmod go-w {file.parent}`"):
        find_secret(config(password_file=str(file)), "password", {})
    file.parent.chmod(0o700)
    os.chown(file, 65534, -1)
    with pytest.raises(UserError, match=r"password_file is not read: .* belongs to the user nobody"):
        find_secret(config(password_file=str(file)), "password", {})


def test_a_credential_of_systemds_may_be_read_by_the_group_that_its_access_list_shows_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nas"
    file.write_text("hush\n")
    file.chmod(0o440)
    with pytest.raises(UserError, match="chmod 600"):
        find_secret(config(password_file=str(file)), "password", {})
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_secret(config(password_file=str(file)), "password", {}) == SecretStr("hush")
    file.chmod(0o444)
    with pytest.raises(UserError, match="chmod 600"):
        find_secret(config(password_file=str(file)), "password", {})
