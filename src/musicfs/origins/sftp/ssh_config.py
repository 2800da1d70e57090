"""Reads ~/.ssh/config as ssh does, where asyncssh is stricter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NoReturn

from asyncssh import connection
from asyncssh.config import SSHClientConfig

log = logging.getLogger(__name__)


class LenientConfig(SSHClientConfig):
    """Accepts comments after values and `ConnectTimeout none`, and skips keys and certificates that are not there."""

    _handlers = SSHClientConfig._handlers | {
        "connecttimeout": ("ConnectTimeout", lambda self, option, args: self._set_timeout(option, args)),
    }

    def get(self, option: str, default: object = None) -> Any:
        value = super().get(option, default)
        if option in ("IdentityFile", "CertificateFile") and isinstance(value, list):
            return [file for file in map(_file_of, value) if file is not None] or default
        return value

    def _set_timeout(self, option: str, args: list[str]) -> None:
        if args[0].lower() == "none":
            args.pop(0)
        else:
            self._set_int(option, args)

    def _error(self, reason: str) -> NoReturn:
        if reason.startswith("Extra data at end: #"):
            return None  # type: ignore[misc] # it is the last that is done with a line
        super()._error(reason)


def use() -> None:
    """Makes asyncssh read configurations so; it offers no other way."""
    connection.SSHClientConfig = LenientConfig  # type: ignore[attr-defined]


def _file_of(name: str) -> str | None:
    """Returns the file, or the public key beside it, which names a key of the agent; None if neither is there."""
    for candidate in (name, f"{name}.pub"):
        if Path(candidate).expanduser().is_file():
            return candidate
    log.debug("~/.ssh/config names %s, which is not there", name)
    return None
