"""The tree of conditions that a query means."""

from __future__ import annotations

from dataclasses import dataclass

from musicfs.query.fields import QueryField


@dataclass(frozen=True, slots=True)
class Contains:
    """The text is part of a value, whatever its case and diacritics. field None: of a title, artist or album."""

    field: QueryField | None
    text: str


@dataclass(frozen=True, slots=True)
class Equals:
    """A value is the text. folded: whatever its case and diacritics. field None: as in `Contains`."""

    field: QueryField | None
    text: str
    folded: bool


@dataclass(frozen=True, slots=True)
class Matches:
    """A value has a part that the regular expression (of RE2) describes. field None: as in `Contains`."""

    field: QueryField | None
    pattern: str


@dataclass(frozen=True, slots=True)
class Between:
    """The number lies between the two, which are part of the range; None: no limit on that side.

    Durations are in seconds, dates in seconds since the epoch. flags are 0 and 1.
    """

    field: QueryField
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every condition holds: without one, everything is found."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple[Condition, ...]


Condition = Contains | Equals | Matches | Between | Not | All | AnyOf


@dataclass(frozen=True, slots=True)
class Order:
    """One key to sort by."""

    field: QueryField
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """What a query means. orders: the keys to sort by, the first decides; none: by album artist, album and track."""

    condition: Condition
    orders: tuple[Order, ...] = ()
