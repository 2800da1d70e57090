"""Limits of what MusicFS accepts in a listing of any server. What exceeds them is left out, or cuts the listing off."""

from __future__ import annotations

from musicfs.problems import Problem, Reason

MAX_NAMES = 250_000
"""Names in one folder. Of a folder with more, such as the same names over and over, the first ones are listed."""
MAX_FOLDER_SECS = 300.0
"""Seconds that the listing of one folder may take, however little of it arrives at a time."""
MAX_LISTING = 32 << 20
"""Bytes of all names in one folder."""
MAX_FOLDERS = 1_000_000
"""Folders that are found and not yet listed, at any time."""
MAX_FILES = 20_000_000
"""Files of one origin. A server that lists more invents them."""
_MAX_NAME = 1020  # bytes: 255 characters, the most that any common filesystem allows, of 4 bytes each
_MAX_PATH = 4096  # bytes, the limit of Linux
_DEEPEST = 100


def is_usable(name: str) -> bool:
    """Whether a name in a listing can be that of a file or a folder: it is no path, and not too long."""
    return name not in ("", ".", "..") and _NO_NAME.isdisjoint(name) and _bytes(name) <= _MAX_NAME


def is_in_reach(path: str) -> bool:
    """Whether a path below the root is not too long or deep. Folders that contain themselves make endless paths."""
    return path.count("/") < _DEEPEST and _bytes(path) <= _MAX_PATH


def name_problem(folder: str, name: str, *, is_folder: bool) -> Problem | None:
    """Returns why an entry of `folder` can't be shown under its name; None if it can."""
    path = f"{folder}/{name}" if folder else name
    if not is_usable(name):
        shown = "".join("\ufffd" if letter in _NO_NAME else letter for letter in name[:_MAX_SHOWN])
        shown = shown if shown not in ("", ".", "..") else "\ufffd"
        return Problem(f"{folder}/{shown}" if folder else shown, Reason.BAD_NAME)
    if not is_in_reach(path):
        reason = Reason.DEEP_FOLDER if is_folder else Reason.BAD_NAME
        return Problem(path, reason, "its path is too long or too deep")
    return None


_NO_NAME = frozenset("/\0")
_MAX_SHOWN = 200  # characters of a bad name


def _bytes(text: str) -> int:
    """Returns an upper bound: a surrogate escape counts as three bytes, and stands for one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
