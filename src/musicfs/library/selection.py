"""Which of the files that an origin lists belong to the library, and how many others there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from musicfs.library.ignore_rules import IgnoreRules, Verdict
from musicfs.model import Stat
from musicfs.problems import Reason
from musicfs.tags.tags import Role, role_of, unknown_kind

_MAX_SUBJECTS = 200
"""So many kinds of files, and hidden places, are counted by name; the others together."""
_OTHERS = "others"


class Selection:
    """Chooses files by the rules, and counts those that are left out without a problem of their own.

    Attributes:
        counts: How many files were left out, by the reason and its subject: an extension such as ".dff", or the path
            of a hidden file or folder.
    """

    def __init__(self, rules: IgnoreRules) -> None:
        self.counts: Counter[tuple[Reason, str]] = Counter()
        self._rules = rules

    def roles_of(self, stats: Iterable[Stat]) -> dict[str, str]:
        """Returns the roles of the files that belong to the library, by path."""
        roles: dict[str, str] = {}
        of_file = self._rules.of_file
        for stat in stats:
            path = stat.path
            verdict = of_file(path)
            if verdict is Verdict.IGNORED:
                continue
            role = role_of(path)
            if verdict is Verdict.HIDDEN:
                if role is Role.AUDIO:
                    self._count(Reason.HIDDEN, self._rules.hidden_part(path) or path)
            elif role is not None:
                roles[path] = role.value
            elif (kind := unknown_kind(path)) is not None:
                self._count(Reason.UNKNOWN_KIND, kind)
        return roles

    def _count(self, reason: Reason, subject: str) -> None:
        key = reason, subject
        self.counts[key if key in self.counts or len(self.counts) < _MAX_SUBJECTS else (reason, _OTHERS)] += 1
