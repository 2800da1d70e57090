"""Patterns that say which files and folders of an origin are ignored: a subset of gitignore's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate

MAX_PATTERNS = 1000
_MAX_PATTERN = 500  # characters
_MAX_PARTS = 20
_ESCAPED = re.compile(r"\\(.)")
_Parts = tuple["re.Pattern[str] | None", ...]


class BadPattern(ValueError):
    """A text that is no pattern. The message is a clause that names it."""


@dataclass(frozen=True, slots=True)
class IgnorePattern:
    """One pattern.

    Attributes:
        is_exception: It begins with "!": what it matches is not ignored.
        is_anchored: It has a slash before its end, so it matches whole paths; else it matches a name at any depth.
        folders_only: It ends with a slash.
        parts: One for each name of the path; None is "**", any number of names.
    """

    is_exception: bool
    is_anchored: bool
    folders_only: bool
    parts: _Parts

    @classmethod
    def parse(cls, text: str) -> IgnorePattern:
        """Raises `BadPattern` for a text that can't mean anything."""
        rest = text.strip()
        is_exception = rest.startswith("!")
        rest = rest[1:] if is_exception else rest
        folders_only, rest = rest.endswith("/"), rest.rstrip("/")
        names = rest.removeprefix("/").split("/")
        if not rest or any(name in ("", ".", "..") for name in names):
            raise BadPattern(f'{text!r} is no pattern: it needs names, such as in "*.tmp" or "Podcasts/"')
        if len(rest) > _MAX_PATTERN or len(names) > _MAX_PARTS:
            raise BadPattern(f"a pattern has at most {_MAX_PATTERN} characters and {_MAX_PARTS} names")
        parts = tuple(None if name == "**" else re.compile(translate(_literal(name)), re.IGNORECASE) for name in names)
        return cls(is_exception, "/" in rest, folders_only, parts)

    def matches(self, names: Sequence[str], *, is_folder: bool) -> bool:
        """Whether it matches a path, given by its names."""
        if self.folders_only and not is_folder:
            return False
        if not self.is_anchored:
            part = self.parts[0]
            return part is None or part.match(names[-1]) is not None
        return _matches(self.parts, names)


def _literal(name: str) -> str:
    r"""The name with what a backslash makes literal, as in "\[live\]", in fnmatch's way to write it."""
    return _ESCAPED.sub(lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], name)


def _matches(parts: _Parts, names: Sequence[str]) -> bool:
    """Matches name by name, in time that grows with the product of the lengths."""
    reached = {0}  # how many of the parts may have been used
    for name in names:
        reached = _skip(parts, reached)
        after = {at for at in reached if at < len(parts) and parts[at] is None}
        for at in reached:
            if at < len(parts) and (part := parts[at]) is not None and part.match(name):
                after.add(at + 1)
        reached = after
    return len(parts) in _skip(parts, reached)


def _skip(parts: _Parts, reached: set[int]) -> set[int]:
    """Adds the places behind each "**", which may stand for no name."""
    more = set(reached)
    for at in range(len(parts)):
        if at in more and parts[at] is None:
            more.add(at + 1)
    return more


class IgnorePatterns:
    """Several patterns, of which the last one that matches decides."""

    def __init__(self, patterns: Sequence[IgnorePattern] = ()) -> None:
        self._patterns = tuple(reversed(patterns))

    @classmethod
    def parse(cls, lines: Iterable[str]) -> IgnorePatterns:
        """Parses a file's lines. It passes over blank lines, comments, and what is no pattern."""
        patterns: list[IgnorePattern] = []
        for line in lines:
            if len(patterns) >= MAX_PATTERNS:
                break
            if line.strip() and not line.startswith("#"):
                try:
                    patterns.append(IgnorePattern.parse(line))
                except BadPattern:
                    continue
        return cls(patterns)

    def decide(self, names: Sequence[str], *, is_folder: bool) -> bool | None:
        """Returns whether the path is ignored; None: no pattern matches."""
        for pattern in self._patterns:
            if pattern.matches(names, is_folder=is_folder):
                return not pattern.is_exception
        return None


def checked_patterns(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns the patterns as they are. Raises `BadPattern` for one that is none."""
    if len(texts) > MAX_PATTERNS:
        raise BadPattern(f"there are more than {MAX_PATTERNS} patterns")
    for text in texts:
        IgnorePattern.parse(text)
    return tuple(texts)
