"""Reads settings from files, the environment and the command line, and reports wrong ones.

Knows nothing of what the settings mean; models.py has the models.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from musicfs.config.ignore import BadPattern
from musicfs.errors import ConfigError
from musicfs.system.ownership import Untrusted, read_trusted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SECRET_KEYS = frozenset(
    {"password", "passphrase", "access_key_id", "secret_access_key", "session_token", "token", "read_token", "secret"}
)
"""Keys of an origin or a webhook whose values are never shown; each may be in the environment as MUSICFS_<ID>_<KEY>."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a field's value must look like, for the remedy in a message: "a whole number from 0 to 255"."""

    text: str


class Sources:
    """Settings merged from several places, and the place of each key."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self._labels: dict[KeyPath, str] = {}

    def add(self, path: KeyPath, value: object, label: str) -> None:
        """Sets one key, over what earlier places said."""
        table = self.data
        for part in path[:-1]:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                return  # a section that is no table; the models will say so
            table = inner
        table[path[-1]] = value
        self._labels[path] = label

    def where(self, path: Sequence[str | int]) -> str:
        """Returns how a message names this key: its file and key path, or the variable that set it."""
        names = tuple(part for part in path if isinstance(part, str))
        label = next((self._labels[names[:n]] for n in range(len(names), 0, -1) if names[:n] in self._labels), "")
        if label.startswith("MUSICFS_"):
            return label
        return f"{label}: {dotted(path)}" if label else dotted(path)


def dotted(path: Sequence[str | int]) -> str:
    """Formats ("origins", 1, "priority") as "origins[1].priority"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's mark for a wrong key of a table
            text += f".{part}" if text else part
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the file's tables. Raises ConfigError, one sentence, when it can't be read or is no TOML."""
    try:
        text = read_trusted(path).decode("utf-8-sig")
    except FileNotFoundError:
        problem = "there is no such file: check the path given with --config or MUSICFS_CONFIG."
    except IsADirectoryError:
        problem = "this is a folder: name the configuration file inside it."
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"line {line} is not UTF-8: save the file in that encoding."
    except Untrusted as error:
        problem = f"it is not read, since another user could have written it: {error.strerror}."
    except OSError as error:
        problem = f"the file can't be read ({error.strerror}): check its permissions."
    else:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            problem = _syntax_problem(str(error), text)
    raise ConfigError([f"{path}: {problem}"])


def _syntax_problem(message: str, text: str) -> str:
    found = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    reason, place = found.groups() if found else (message, "")
    if place == "end of document":
        place = f"line {text.count(chr(10)) + 1}, the end of the file"
    return f"this is not valid TOML at {place}: {reason[:1].lower()}{reason[1:]}."


def read_environment(
    environ: Mapping[str, str], known: Mapping[str, KeyPath], ignored: Iterable[str]
) -> tuple[list[tuple[str, KeyPath, object]], list[str]]:
    """Returns the settings in `environ` as (variable, key path, value), and warnings about unknown MUSICFS_ names."""
    settings: list[tuple[str, KeyPath, object]] = []
    warnings: list[str] = []
    secret = tuple(f"_{key.upper()}" for key in SECRET_KEYS)
    for name in sorted(name for name in environ if name.startswith("MUSICFS_")):
        if name in known:
            settings.append((name, known[name], _typed(environ[name])))
        elif name not in ignored and not name.endswith(secret):
            warnings.append(f"{name} is not a known variable and is ignored{did_you_mean(name, known) or '.'}")
    return settings, warnings


def _typed(text: str) -> object:
    """Parses a list or a table, written as in TOML; everything else stays text, which the models convert."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ": did you mean NAME?" or "", to end a sentence with."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f": did you mean {close[0]}?" if close else ""


def hide_secrets(settings: Mapping[str, object]) -> dict[str, object]:
    """Wraps each secret of the settings, so that no repr or message can show it."""
    return {
        key: SecretStr(value) if key in SECRET_KEYS and isinstance(value, str) else value
        for key, value in settings.items()
    }


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """A table of the settings: what its keys may be, and how messages name it."""

    model: type[BaseModel]
    sources: Sources
    prefix: tuple[str | int, ...] = ()
    also: tuple[str, ...] = ()  # keys that are valid in addition to the model's

    def problems(self, error: ValidationError) -> list[str]:
        """Returns one sentence for each problem that pydantic found."""
        return [self._sentence(found) for found in error.errors(include_url=False)]

    def _sentence(self, found: ErrorDetails) -> str:
        where = self.sources.where((*self.prefix, *found["loc"]))
        owner, field = find_field(self.model, found["loc"])
        if found["type"] == "extra_forbidden":
            known = sorted({*owner.model_fields, *(self.also if owner is self.model else ())})
            name = str(found["loc"][-1])
            return f"{where} is not a known key" + (did_you_mean(name, known) or f": the keys here are {_list(known)}.")
        wanted = next((m.text for m in field.metadata if isinstance(m, Expected)), "") if field else ""
        if found["type"] == "missing":
            return f"{where} is missing: set it to {wanted or 'a value'}."
        said = found["ctx"]["error"] if found["type"] == "value_error" else None
        if said is not None and (not wanted or isinstance(said, BadPattern)):
            return f"{where}: {said}."
        secret = bool(found["loc"]) and found["loc"][-1] in SECRET_KEYS
        secret |= field is not None and field.annotation is SecretStr
        shown = "not usable" if secret else shown_value(found["input"])
        return f"{where} is {shown}: {f'use {wanted}' if wanted else _lower(found['msg'])}."


def find_field(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Returns the innermost model on the way to `loc`, and its field that contains `loc`."""
    field: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int):
            continue
        inner = model_of(field) if field else model
        if inner is None:
            break
        model, field = inner, inner.model_fields.get(part)
        if field is None:
            break
    return model, field


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the model of a field that is a table, or a list of tables."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def shown_value(value: object) -> str:
    """Formats a value as in TOML, short enough for a sentence."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
