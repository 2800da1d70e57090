"""Changes of the tree, as the library worker reports them after each commit.

They are a module of their own, so that the process of the mount loads nothing of what makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TreeChanges:
    """What the kernel may have cached and must forget."""

    entries: set[tuple[int, str]] = field(default_factory=set)
    """(parent's inode number, name) of every file or directory that came, went or changed."""

    directories: dict[int, int] = field(default_factory=dict)
    """Directories whose own attributes (the time of change) are new, and their parents."""

    attributes: set[tuple[int, int]] = field(default_factory=set)
    """(parent's inode number, inode number) of every file with another time of change, owner or mode."""

    placed: int = 0
    """How many files were placed for these changes: what they cost."""

    def __bool__(self) -> bool:
        return bool(self.entries or self.attributes)
