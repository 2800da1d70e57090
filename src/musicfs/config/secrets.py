"""Finds the secrets of origins and webhooks: the environment, a private file, the keyring, or the configuration.

Nothing here is ever logged or shown: values are `SecretStr` from the moment they are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.errors import UserError
from musicfs.system.ownership import Untrusted, open_trusted

__all__ = ["find_secret", "secret_of", "variable_of"]


def find_secret(config: OriginConfig, key: str, environ: Mapping[str, str] = os.environ) -> SecretStr | None:
    """Returns the origin's secret called `key` from the first place that has one, or None.

    None: use the protocol's own sources.

    In this order: the environment (`variable_of`), the file that the setting `<key>_file` names, the setting `key`
    itself, the system's keyring (service "musicfs", user "<id>/<key>") where the package `keyring` is installed.
    Raises UserError for a file that others can read, or that can't be read at all.
    """
    return secret_of(f"Origin {config.id!r}", config.id, config.settings, key, environ)


def secret_of(
    owner: str, id: str, settings: Mapping[str, Any], key: str, environ: Mapping[str, str] = os.environ
) -> SecretStr | None:
    """Finds a secret of anything that has an id and settings. owner: how a message names it."""
    if value := environ.get(variable_of(id, key)):
        return SecretStr(value)
    if file := settings.get(f"{key}_file"):
        return _from_file(owner, key, Path(file).expanduser())
    literal = settings.get(key)
    if literal is not None:
        return literal if isinstance(literal, SecretStr) else SecretStr(str(literal))
    return _from_keyring(f"{id}/{key}")


def _from_file(owner: str, key: str, path: Path) -> SecretStr:
    try:
        descriptor = open_trusted(path)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            if os.fstat(descriptor).st_mode & _others(path):
                raise UserError(f"{owner}: others can read {path}; `chmod 600 {path}` closes it.")
            return SecretStr(file.read().rstrip("\r\n"))
    except Untrusted as error:
        raise UserError(f"{owner}: {key}_file is not read: {error.strerror}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{owner}: {key}_file {path} can't be read ({error}).") from error


def _others(path: Path) -> int:
    """Returns the mode bits that must not be set. systemd grants a service its credentials by an access control list,
    which shows in the group's bits."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    by_systemd = credentials is not None and path.parent == Path(credentials)
    return stat.S_IWGRP | stat.S_IRWXO if by_systemd else stat.S_IRWXG | stat.S_IRWXO


def _from_keyring(user: str) -> SecretStr | None:
    try:
        import keyring
    except ImportError:
        return None
    try:
        value = keyring.get_password("musicfs", user)
    except Exception:  # any back end, or none: a keyring that fails has no secret for us
        return None
    return SecretStr(value) if value else None
