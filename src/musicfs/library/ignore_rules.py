"""Which files of an origin a scan shows: the list of all origins, the origin's own patterns, and marker files in it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from musicfs.config.ignore import IgnorePattern, IgnorePatterns
from musicfs.origins.ignored import is_hidden, is_ignored

MARKERS = (".nomedia", ".ndignore")
"""Files that say what of their folder is no music. Android and Navidrome read them, too."""
MAX_MARKER = 64 << 10  # bytes
_EVERYTHING = IgnorePatterns.parse(["*"])
_MAX_REMEMBERED = 10_000
_HIDDEN_LEVELS = 3


class Verdict(IntEnum):
    """What becomes of a path; of several verdicts the highest counts."""

    SHOWN = 0
    HIDDEN = 1
    IGNORED = 2


class IgnoreRules:
    """The rules of one scan, which learns of marker files while it runs.

    A pattern of the origin or of a marker file goes before the list that holds for all origins, so that an exception
    ("!.hack") shows what is hidden.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.marked: dict[str, IgnorePatterns] = {}
        """The folders with marker files, and what these ignore there."""
        self._patterns = IgnorePatterns([IgnorePattern.parse(pattern) for pattern in patterns])
        self._has_patterns = bool(patterns)
        self._folders: dict[str, Verdict] = {"": Verdict.SHOWN}

    def mark(self, folder: str, text: str | None) -> None:
        """Adds a marker file. text: its patterns, one a line; None or blank: all of its folder is ignored.

        The root can't be ignored as a whole: an origin is configured because its music is wanted.
        """
        if text is not None and text.strip():
            self.marked[folder] = IgnorePatterns.parse(text.splitlines())
        elif folder:
            self.marked[folder] = _EVERYTHING
        self._folders = {"": Verdict.SHOWN}

    def of_file(self, path: str) -> Verdict:
        folder, _, name = path.rpartition("/")
        above = self.of_folder(folder)
        return max(above, self._of_name(path, name, is_folder=False)) if above < Verdict.IGNORED else above

    def of_folder(self, folder: str) -> Verdict:
        verdict = self._folders.get(folder)
        if verdict is None:
            above, _, name = folder.rpartition("/")
            verdict = max(self.of_folder(above), self._of_name(folder, name, is_folder=True))
            if len(self._folders) >= _MAX_REMEMBERED:
                self._folders = {"": Verdict.SHOWN}
            self._folders[folder] = verdict
        return verdict

    def hidden_part(self, path: str) -> str | None:
        """Returns the path down to its first hidden name; None: no name is hidden."""
        names = path.split("/")
        return next(("/".join(names[: at + 1]) for at, name in enumerate(names) if is_hidden(name)), None)

    def enters_hidden(self, folder: str) -> bool:
        """Whether to list a hidden folder, to count the music in it: not deep down, where a program keeps its own."""
        hidden = self.hidden_part(folder)
        return hidden is not None and folder.count("/") - hidden.count("/") < _HIDDEN_LEVELS

    def _of_name(self, path: str, name: str, *, is_folder: bool) -> Verdict:
        if self._has_patterns or self.marked:
            decided = self._decided(path.split("/"), is_folder=is_folder)
            if decided is not None:
                return Verdict.IGNORED if decided else Verdict.SHOWN
        if is_ignored(name):
            return Verdict.IGNORED
        return Verdict.HIDDEN if is_hidden(name) else Verdict.SHOWN

    def _decided(self, names: Sequence[str], *, is_folder: bool) -> bool | None:
        """Asks the markers of the folders above, the nearest first, then the origin's patterns."""
        if self.marked:
            for depth in range(len(names) - 1, -1, -1):
                patterns = self.marked.get("/".join(names[:depth]))
                if patterns is not None:
                    decided = patterns.decide(names[depth:], is_folder=is_folder)
                    if decided is not None:
                        return decided
        return self._patterns.decide(names, is_folder=is_folder)
