"""Turns the conditions of a query into SQL over the search index (`search.`, attached) and the catalogue (`main.`).

Every piece is a condition on `t`, a row of `search.tracks`. Values are bound, never part of the SQL.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection

from musicfs.catalog.paths import find_inode
from musicfs.catalog.search_index import COLUMNS
from musicfs.catalog.search_texts import find_texts
from musicfs.query.conditions import All, AnyOf, Between, Condition, Contains, Equals, Matches, Not
from musicfs.query.fields import QueryField

_FEW_HOLDERS = 5000
_FEW_TEXTS = 30
# Of few tracks, a list is made. Of many with one of few texts, each track is asked for them: the first of a page come
# at once. Of many with one of many texts, a list is made all the same.
_LISTED = "t.content IN (SELECT h.content FROM search.holders h WHERE h.text IN (SELECT value FROM json_each({ids})))"
_ASKED = "EXISTS (SELECT 1 FROM search.holders h WHERE h.text IN ({ids}) AND h.content = t.content)"
_HOLDERS = "SELECT count(*) FROM (SELECT 1 FROM search.holders WHERE text IN (SELECT value FROM json_each(?)) LIMIT ?)"
_REPLICAS = "main.replicas r JOIN main.configured o ON o.num = r.origin"
_COPIES = f"(SELECT count(DISTINCT r.origin) FROM {_REPLICAS} WHERE r.content = t.content)"
SIZE = "(SELECT c.size FROM main.contents c WHERE c.id = t.content)"
"""The size of a track in bytes, as SQL."""
_BELOW = """t.content IN (
    WITH RECURSIVE below (ino, content) AS (
        SELECT ino, content FROM main.inodes WHERE ino = {ino}
        UNION ALL
        SELECT i.ino, i.content FROM below b CROSS JOIN main.names n ON n.parent = b.ino
        CROSS JOIN main.inodes i ON i.ino = n.ino WHERE n.hidden = 0 AND b.content IS NULL
    )
    SELECT content FROM below WHERE content IS NOT NULL
)"""


class SqlConditions:
    """Writes SQL, and collects the values that it binds. parameters: by their names, without the colon."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.parameters: dict[str, object] = {}

    def of(self, condition: Condition) -> str:
        """Returns the condition as SQL."""
        match condition:
            case All(conditions):
                return self._joined(conditions, " AND ", "1")
            case AnyOf(conditions):
                return self._joined(conditions, " OR ", "0")
            case Not(inner):
                return f"NOT {self.of(inner)}"
            case Between(field, low, high):
                return self._between(_number(field), low, high)
            case Contains(field, text) if field is not None and field.tag is None:
                return self._known(field, text, f"instr(lower({{}}), lower({self._bound(text)}))")
            case Equals(field, text, folded) if field is not None and field.tag is None:
                bound = self._bound(text)
                return self._known(field, text, f"lower({{}}) = lower({bound})" if folded else f"{{}} = {bound}")
            case Contains(_, ""):
                return "1"
            case Contains() | Equals() | Matches():
                return self._holding(find_texts(self._db, condition))

    def _joined(self, conditions: Sequence[Condition], word: str, empty: str) -> str:
        return f"({word.join(map(self.of, conditions))})" if conditions else empty

    def _bound(self, value: object) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def _between(self, what: str, low: float | None, high: float | None) -> str:
        if low is not None and low == high:
            return f"{what} = {self._bound(low)}"
        ends = [f"{what} >= {self._bound(low)}"] if low is not None else []
        ends += [f"{what} <= {self._bound(high)}"] if high is not None else []
        return f"({' AND '.join(ends)})" if ends else f"{what} IS NOT NULL"

    def _holding(self, ids: Sequence[int]) -> str:
        """A track holds one of the texts."""
        listed = json.dumps(ids)
        if len(ids) <= _FEW_TEXTS:
            (holders,) = self._db.execute(_HOLDERS, (listed, _FEW_HOLDERS + 1)).fetchone()
            if holders > _FEW_HOLDERS:
                return _ASKED.format(ids=", ".join(map(self._bound, ids)))
        return _LISTED.format(ids=self._bound(listed))

    def _known(self, field: QueryField, text: str, comparison: str) -> str:
        """A condition on what only the catalogue knows. comparison: as SQL, with {} for the column."""
        if field.name == "path":
            return _BELOW.format(ino=self._bound(find_inode(self._db, text)))
        if field.name == "origin":
            return f"t.content IN (SELECT r.content FROM {_REPLICAS} WHERE {comparison.format('o.id')})"
        return (
            "t.content IN (SELECT r.content FROM main.problems p JOIN main.replicas r"
            f" ON r.origin = p.origin AND r.path = p.path WHERE {comparison.format('p.reason')})"
        )


def _number(field: QueryField) -> str:
    if field.name in COLUMNS or field.name == "added":
        return f"t.{field.name}"
    return {"copies": _COPIES, "size": SIZE}[field.name]
