"""Edits the origins in a configuration file: comments and order stay, and the file is never half written."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Comment, Table, Whitespace

from musicfs.config.sources import SECRET_KEYS, read_toml
from musicfs.errors import UserError

_BOM = b"\xef\xbb\xbf"


class ConfigFile:
    """A file as it was when it was read, and the edits since. Only `save` writes."""

    def __init__(self, path: Path, plain: dict[str, Any], before: bytes) -> None:
        """plain: what the file says. before: its bytes."""
        self.path = path
        self._plain = plain
        self._before = before
        self._document = tomlkit.parse(before.removeprefix(_BOM).decode())

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Reads the file. Raises ConfigError when it can't be read or is no TOML."""
        return cls(path, read_toml(path), path.read_bytes())

    def ids(self) -> list[object]:
        origins = self._plain.get("origins", [])
        return [table.get("id") for table in origins] if isinstance(origins, list) else []

    def add(self, table: Mapping[str, object]) -> None:
        """Appends an origin, without secrets. Raises UserError when the file has one of that id."""
        if table["id"] in self.ids():
            raise UserError(
                f"{self.path} has an origin {table['id']!r} already: choose another id, or let `musicfs reload`"
                " take over what the file says."
            )
        table = {key: table[key] for key in ("id", "origin_type", "priority") if key in table} | dict(table)
        shown = {
            key: _toml_value(value) for key, value in table.items() if key not in SECRET_KEYS and value is not None
        }
        self._plain.setdefault("origins", []).append(shown)
        if "origins" not in self._document:
            self._document["origins"] = tomlkit.aot()
        origins: Any = self._document["origins"]
        item: Any = tomlkit.table() if isinstance(origins, AoT) else tomlkit.inline_table()
        item.update(shown)
        if isinstance(item, Table):
            item.value.body.extend(_take_tail(origins[-1]) if origins else ())
            item.trivia.indent = "\n"
        origins.append(item)

    def remove(self, id: str) -> None:
        """Does nothing if the file has no such origin."""

        def edit(origins: Any, at: int) -> None:
            gone = origins.pop(at)
            if isinstance(gone, Table):
                tail = _take_tail(gone)
                if at < len(origins):
                    indent = "".join(item.as_string() for _, item in tail).lstrip("\n")
                    origins[at].trivia.indent = indent + origins[at].trivia.indent
                elif origins:
                    above = _take_tail(origins[-1])
                    comments = above if any(isinstance(item, Comment) for _, item in above) else []
                    origins[-1].value.body.extend(comments + tail)

        self._edit(id, edit)

    def set(self, id: str, key: str, value: int | bool) -> None:
        """Does nothing if the file has no such origin."""

        def edit(origins: Any, at: int) -> None:
            table = origins[at]
            tail = _take_tail(table) if isinstance(table, Table) and key not in table else []
            table[key] = value
            if tail:
                table.value.body.extend(tail)

        self._edit(id, edit)

    def _edit(self, id: str, edit: Callable[[Any, int], object]) -> None:
        if id in self.ids():
            at = self.ids().index(id)
            edit(self._document["origins"], at)
            edit(self._plain["origins"], at)

    def text(self) -> str:
        """Raises UserError if the edits are wrong, which can happen in a file with an unusual layout."""
        text = tomlkit.dumps(self._document)
        try:
            right = tomllib.loads(text) == self._plain
        except tomllib.TOMLDecodeError:
            right = False
        if not right:
            raise UserError(f"{self.path} is laid out in a way that can't be edited safely: edit it by hand.")
        return text

    def save(self, check: Callable[[Path], object] = lambda path: None) -> None:
        """Replaces the file completely or not at all; a symbolic link stays a link.

        check: takes the path of the new file before it becomes the old one's successor, and raises if it is not good.
        Raises UserError when another program has changed the file meanwhile, or it can't be written.
        """
        text = self.text().encode()
        target = self.path.resolve()
        try:
            if target.read_bytes() != self._before:
                raise UserError(f"{self.path} was changed by another program meanwhile: try again.")
            mode = target.stat()
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            new = Path(name)
            try:
                with open(handle, "wb") as file:  # noqa: PTH123 (a descriptor)
                    file.write(_BOM * self._before.startswith(_BOM) + text)
                    with contextlib.suppress(PermissionError):
                        os.fchown(file.fileno(), mode.st_uid, mode.st_gid)
                    os.fchmod(file.fileno(), mode.st_mode & 0o7777)
                    file.flush()
                    os.fsync(file.fileno())
                check(new)
                new.replace(target)
            finally:
                new.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self.path} could not be written ({error.strerror}).") from error


def _take_tail(table: Table) -> list[Any]:
    """Removes and returns what follows the table's last key after a blank line. tomlkit counts it to the table, but for
    a reader such comments belong to what follows."""
    body = table.value.body
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    while end < len(body) and not isinstance(body[end][1], Whitespace):
        end += 1
    tail = body[end:]
    del body[end:]
    return tail


def _toml_value(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
