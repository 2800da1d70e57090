"""Finds the texts of the search index that a condition means, and those that a misspelt one may mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from sqlite3 import Connection

from musicfs.catalog.search_index import FIELD_BITS, TEXT_FIELDS
from musicfs.query.conditions import All, AnyOf, Condition, Contains, Equals, Matches, Not
from musicfs.query.fields import FREE_TEXT, QueryField
from musicfs.query.folding import index_form, search_form

_RUN = 3
"""Characters that the index finds together."""
_INDEXED = (
    "SELECT x.id FROM search.runs r CROSS JOIN search.texts x ON x.id = r.rowid"
    " WHERE r.runs MATCH :runs AND r.rowid BETWEEN :low AND :high AND instr(x.form, :form)"
)
_SHORTEST = 4
"""Characters: shorter words are near to far too much."""
_LONG = 8
"""Characters of words that may differ in two letters."""
_RAREST = 6
"""Of a word's runs, so many are looked for: common ones lead to every other text."""
_CANDIDATES = 300


def range_of(name: str) -> dict[str, int]:
    """The ids of one field's texts, from low to high."""
    low = TEXT_FIELDS[name] << FIELD_BITS
    return {"low": low, "high": low + (1 << FIELD_BITS) - 1}


def find_texts(db: Connection, condition: Contains | Equals | Matches) -> list[int]:
    """Returns the ids of the texts of which the condition is true. Its field is one that the index has, or None."""
    return [id for name in _names(condition.field) for id in _found(db, condition, name)]


def _names(field: QueryField | None) -> tuple[str, ...]:
    return FREE_TEXT if field is None else (field.name,)


def _found(db: Connection, condition: Contains | Equals | Matches, name: str) -> Iterator[int]:
    match condition:
        case Contains(_, text):
            sql, values = _containing(search_form(text))
        case Equals(_, text, folded):
            # Without an index for forms, since few look for them: the field's texts are read one after the other.
            sql = f"SELECT id FROM search.texts WHERE {'form' if folded else 'text'} = :text AND {_RANGE}"
            values = {"text": search_form(text) if folded else text}
        case Matches(_, pattern):
            sql, values = f"SELECT id FROM search.texts WHERE matches(:text, text) AND {_RANGE}", {"text": pattern}
    return (id for (id,) in db.execute(sql, values | range_of(name)))


_RANGE = "id BETWEEN :low AND :high"


def _containing(form: str) -> tuple[str, dict[str, str]]:
    runs = _runs(form)
    if not runs:
        return f"SELECT id FROM search.texts WHERE instr(form, :form) AND {_RANGE}", {"form": form}
    return _INDEXED, {"form": form, "runs": " AND ".join(map(_quoted, runs))}


def _runs(form: str) -> list[str]:
    """The runs of three characters by which the index finds a search form; none if it is shorter."""
    text = index_form(form)
    return list(dict.fromkeys(text[at : at + _RUN] for at in range(len(text) - _RUN + 1)))


def _quoted(run: str) -> str:
    """A run as a string of FTS5."""
    return '"' + run.replace('"', '""') + '"'


class Correction:
    """Replaces, in a condition, words that nothing has by what people may have meant.

    instead: what was replaced, and by what.
    """

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.instead: list[tuple[str, str]] = []

    def of(self, condition: Condition) -> Condition:
        """Returns the condition with the nearest text in place of each one that nothing has."""
        match condition:
            case All(conditions):
                return All(tuple(map(self.of, conditions)))
            case AnyOf(conditions):
                return AnyOf(tuple(map(self.of, conditions)))
            case Contains(field, text) if field is None or field.tag is not None:
                near = self._meant(field, search_form(text))
                if near is None:
                    return condition
                self.instead.append((text, near))
                return replace(condition, text=near)
            case Not():  # what is not wanted is not guessed
                return condition
        return condition

    def _meant(self, field: QueryField | None, form: str) -> str | None:
        """What is near to a form that nothing has; None: something has it, or nothing is near."""
        if len(form) < _SHORTEST:
            return None
        sql, values = _containing(form)
        if any(self._db.execute(f"{sql} LIMIT 1", values | range_of(name)).fetchone() for name in _names(field)):
            return None
        return _nearest(form, self._candidates(field, form))

    def _candidates(self, field: QueryField | None, form: str) -> Iterator[str]:
        any_of = " OR ".join(map(_quoted, self._rarest(_runs(form))))
        for name in _names(field) if any_of else ():
            rows = self._db.execute(
                "SELECT x.form FROM (SELECT r.rowid AS id FROM search.runs r WHERE r.runs MATCH :runs"
                f" AND r.rowid BETWEEN :low AND :high ORDER BY r.rank LIMIT {_CANDIDATES}) f"
                " JOIN search.texts x ON x.id = f.id",
                {"runs": any_of} | range_of(name),
            )
            yield from (text for (text,) in rows)

    def _rarest(self, runs: Sequence[str]) -> list[str]:
        """Those of the runs that the fewest texts have, but at least one."""
        counts = {
            run: row[0]
            for run in runs
            if (row := self._db.execute("SELECT doc FROM search.run_counts WHERE term = ?", (run,)).fetchone())
        }
        return sorted(counts, key=lambda run: counts[run])[:_RAREST]


def _nearest(form: str, texts: Iterator[str]) -> str | None:
    """The words of the texts that differ from the form in the fewest letters: in one, or in two of a long form."""
    from rapidfuzz.distance import OSA

    most = 2 if len(form) >= _LONG else 1
    near = ((OSA.distance(form, part, score_cutoff=most), part) for text in texts for part in _parts(text, form))
    return min(((distance, part) for distance, part in near if distance <= most), default=(0, None))[1]


def _parts(text: str, form: str) -> Iterator[str]:
    """The runs of words in the text that have as many words as the form."""
    words, many = text.split(), len(form.split())
    yield from (" ".join(words[at : at + many]) for at in range(len(words) - many + 1))
