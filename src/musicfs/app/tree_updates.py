"""Changes of the tree, for the parts that show it."""

from __future__ import annotations

from collections.abc import Callable

from musicfs.catalog.view import TreeView
from musicfs.library.tree_changes import TreeChanges


class TreeUpdates:
    """Passes each commit of the library on to its listeners. Belongs to the event loop's thread."""

    def __init__(self, tree: TreeView) -> None:
        self._tree = tree
        self._listeners: list[Callable[[TreeChanges], None]] = []

    def listen(self, callback: Callable[[TreeChanges], None]) -> None:
        """Calls `callback` after each commit that changes the tree."""
        self._listeners.append(callback)

    def publish(self, changes: TreeChanges) -> None:
        """Refreshes the tree after a commit, then calls the listeners if it changed anything."""
        self._tree.refresh()
        if changes:
            for listener in self._listeners:
                listener(changes)
