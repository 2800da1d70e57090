"""What a scan removes: files that are gone, if that is plausible, and files that the user's rules leave out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from musicfs.catalog.writer import Catalog
from musicfs.events import Event, FilesChanged
from musicfs.library.ignore_rules import Verdict
from musicfs.library.scan_state import ScanState
from musicfs.library.tree import TreeBuilder
from musicfs.library.tree_changes import TreeChanges

log = logging.getLogger(__name__)

# More than this share of an origin gone at once is more likely an accident than a wish.
_PLAUSIBLE_SHARE = 0.25
_ALWAYS_PLAUSIBLE = 3
_WINDOW_SECS = 3600.0


class Removals:
    """Removes files from the catalogue and the tree, at the end of a listing.

    Args:
        catalog: Where the origins' files are recorded.
        builder: Brings the tree in line with the catalogue.
        publish: Receives the events.
        announce: Receives the tree's changes after the commit.
    """

    def __init__(
        self,
        catalog: Catalog,
        builder: TreeBuilder,
        publish: Callable[[Event], None],
        announce: Callable[[TreeChanges], None],
    ) -> None:
        self._catalog = catalog
        self._builder = builder
        self._publish = publish
        self._announce = announce

    def remove_unseen(self, scan: ScanState) -> None:
        """Removes what was not listed, or keeps it if more is gone than a user is likely to have deleted.

        What is reached only through links that are left out, or what a rule ignores, goes in any case: it must not be
        shown.
        """
        id = scan.origin.id
        unseen = self._unseen(scan)
        hidden = scan.links.hidden(unseen)
        ruled_out = self._ruled_out(scan, unseen) - hidden
        gone = [number for number in unseen if number not in hidden and number not in ruled_out]
        # A file that has only moved is no loss, however many they are.
        lost = self._catalog.lost(id, gone)
        changes = TreeChanges()
        with self._catalog.transaction():
            if lost and not self._is_plausible(id, lost) and not self._catalog.accepts_removals(id):
                scan.held, gone = lost, []
            elif gone:
                self._catalog.count_removed(id, lost, _WINDOW_SECS)
            if going := [*gone, *hidden, *ruled_out]:
                changes = self._builder.update(*self._catalog.remove_replicas(going))
                scan.removed += len(going)
            if (scan.is_of_everything or scan.held) and self._catalog.set_held(id, scan.held) and scan.held:
                log.warning(
                    "%d files are gone from origin %s: they are kept in the tree until"
                    " `musicfs origin accept-removals %s` confirms it",
                    lost, id, id, extra={"origin": id},
                )  # fmt: skip
            scan.links_left_out = scan.links.keep(scan.under, len(hidden))
            if scan.is_of_everything:
                self._catalog.scan_completed(id)
        if hidden:
            log.warning(
                "%d files of origin %s are no longer shown: they lie behind symbolic links, which its setting `links`"
                " leaves out",
                len(hidden), id, extra={"origin": id},
            )  # fmt: skip
        self._announce(changes)
        if going:
            self._publish(FilesChanged(id, 0, 0, len(going)))

    def _unseen(self, scan: ScanState) -> list[int]:
        """The numbers of replicas at and below the scanned paths that were not listed."""
        catalog, id = self._catalog, scan.origin.id
        return sorted({n for path in scan.under for n in scan.seen.unseen(catalog.replicas_under(id, path))})

    def _ruled_out(self, scan: ScanState, unseen: Sequence[int]) -> set[int]:
        """Those of the replicas that a rule leaves out, and those that were seen before their folder's marker file."""
        catalog, id = self._catalog, scan.origin.id
        below = {number for folder in scan.rules.marked for number in catalog.replicas_below(id, folder)}
        paths = catalog.paths_of({*unseen, *below})
        return {number for number, path in paths.items() if scan.rules.of_file(path) is not Verdict.SHOWN}

    def _is_plausible(self, origin: str, lost: int) -> bool:
        """Whether a user may well have deleted so many files on purpose.

        Recent removals count too: a watch reports one big removal as many small ones.
        """
        before = self._catalog.removed_lately(origin, _WINDOW_SECS)
        have = self._catalog.count_replicas(origin)
        if lost == have > 1:
            return False
        return lost + before <= max(_ALWAYS_PLAUSIBLE, (have + before) * _PLAUSIBLE_SHARE)
