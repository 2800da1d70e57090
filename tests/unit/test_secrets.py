"""Where secrets come from, and that they are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from musicfs.config import OriginConfig
from musicfs.errors import UserError
from musicfs.model import OriginId, OriginType
from musicfs.secrets import find_secret, variable_of


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
