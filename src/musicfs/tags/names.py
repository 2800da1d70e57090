"""Names that every filesystem accepts: a tag's value as one component of a path.

The strictest reader decides (Windows and macOS clients reach the mount over SMB), and the rules are chosen to
look natural to a person: `AC/DC` is `AC-DC`, `2001: A Space Odyssey` is `2001 - A Space Odyssey`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from musicfs.texts import normalised, with_plain_spaces, without_hidden

MAX_BYTES = 255
"""The longest component, in UTF-8 bytes, that Linux filesystems accept."""

_MAX_TAG = 80
"""Bytes: room for a digest of 64 digits and a number."""
_REPLACED = str.maketrans({"/": "-", "\\": "-", "|": "-", '"': "'", "*": "_", "?": "_", "<": "_", ">": "_"})
_COLON_BEFORE_SPACE = re.compile(r"(?<!\s)\s*:(?=\s)")
_NO_END = ".\u200c\u200d"
_NEVER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?=\s*(?:\.|$))", re.IGNORECASE)
_EXTENSION = re.compile(r"(?<=[^/])\.((?=[0-9]*[A-Za-z])[A-Za-z0-9+]{2,8})$")


def safe_component(text: str, max_bytes: int = MAX_BYTES) -> str:
    """`text` as one path component: never empty, never `.` or `..`, at most `max_bytes` (at least 8) of UTF-8.

    Applying it twice changes nothing.
    """
    name = normalised(with_plain_spaces(without_hidden(text)))
    name = _NEVER.sub("_", name.strip())
    name = _COLON_BEFORE_SPACE.sub(" -", name).replace(":", "-").translate(_REPLACED)
    name = name.lstrip()
    if name.startswith("."):
        name = "_" + name[1:]
    name = _strip_end(_cut(_strip_end(name), max_bytes))
    device = _DEVICE.match(name)
    if device:
        name = _strip_end(_cut(f"{device[0]}_{name[device.end() :]}", max_bytes))
    return name or "_"


def safe_filename(stem: str, ext: str, max_bytes: int = MAX_BYTES) -> str:
    """`stem.ext` as one component; if it is too long, the stem is cut and the extension stays.

    Args:
        stem: The name without its extension.
        ext: Without its dot; "" for the stem alone.
        max_bytes: The longest result, in bytes of UTF-8.
    """
    suffix = re.sub(r"[^A-Za-z0-9+]", "", ext)[:16]
    if not suffix:
        return safe_component(stem, max_bytes)
    return f"{safe_component(stem, max_bytes - len(suffix) - 1)}.{suffix}"


def split_extension(name: str) -> tuple[str, str]:
    """(stem, extension without its dot); the extension is empty where there is nothing that looks like one.

    `R.E.M.`, `Vol.2` and `Mr. Bungle` have none, and neither has a name that is nothing but an extension.
    """
    match = _EXTENSION.search(name)
    return (name[: match.start()], match[1]) if match else (name, "")


def with_ending(name: str, ending: str) -> str:
    """The name of what belongs to the file `name`: with `ending`, such as ".lrc" or ".en.lrc", in place of its own."""
    more, _, ext = ending.rpartition(".")
    return safe_filename(PurePosixPath(name).stem + more, ext)


def with_suffix_tag(name: str, tag: str) -> str:
    """`name` with ` [tag]` before its extension, still one safe component: it keeps colliding names apart."""
    stem, ext = split_extension(name)
    suffix = f" [{safe_component(tag, _MAX_TAG)}]"
    room = MAX_BYTES - len(suffix.encode()) - (len(ext) + 1 if ext else 0)
    return safe_component(stem, room) + suffix + (f".{ext}" if ext else "")


def _cut(name: str, max_bytes: int) -> str:
    """The longest start that fits and splits neither a character nor a base from its combining marks."""
    encoded = name.encode()
    if len(encoded) <= max_bytes:
        return name
    length = len(encoded[:max_bytes].decode(errors="ignore"))
    whole = length
    while whole and unicodedata.combining(name[whole]):
        whole -= 1
    return name[: whole or length]


def _strip_end(name: str) -> str:
    end = len(name)
    while end and (name[end - 1] in _NO_END or name[end - 1].isspace()):
        end -= 1
    return name[:end]
