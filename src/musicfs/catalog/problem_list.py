"""The problems of origins' files, for readers: how many there are, and which. Every function blocks, and opens the
catalogue itself, so that it may run in any thread."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from musicfs.catalog.database import connect
from musicfs.model import OriginId, decode_path, encode_path
from musicfs.problems import Reason

_CACHE_MB = 2
_KNOWN = frozenset(reason.value for reason in Reason)


class ProblemCount(NamedTuple):
    """How many problems of one reason an origin has, without those that the user dismissed.

    subject: what they have in common, such as ".dff", where they are counted and not named; "" where they are named.
    """

    origin: OriginId
    reason: Reason
    subject: str
    number: int


class ProblemRow(NamedTuple):
    """One problem. path: relative to the origin's root. since: seconds since the epoch."""

    origin: OriginId
    path: str
    reason: Reason
    detail: str
    since: float
    dismissed: bool


def count_problems(catalog: Path) -> list[ProblemCount]:
    """Counts the problems of the configured origins by reason: in milliseconds, for up to 100,000 of an origin."""
    sql = (
        "SELECT id, reason, subject, sum(n) FROM ("
        " SELECT origin, reason, '' AS subject, count(*) AS n FROM problems WHERE dismissed = 0 GROUP BY origin, reason"
        " UNION ALL SELECT origin, reason, subject, files FROM left_out_counts"
        ") JOIN configured ON num = origin GROUP BY num, reason, subject ORDER BY priority, num, reason, subject"
    )
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        rows = db.execute(sql).fetchall()
    return [ProblemCount(OriginId(row[0]), Reason(row[1]), *row[2:]) for row in rows if row[1] in _KNOWN]


def find_problems(
    catalog: Path,
    origin: OriginId,
    *,
    under: str = "",
    reason: Reason | None = None,
    dismissed: bool = False,
    after: ProblemRow | None = None,
    limit: int = 1000,
) -> list[ProblemRow]:
    """At most `limit` problems of one origin, by path.

    Args:
        catalog: The catalogue's file.
        origin: Whose problems.
        under: Only those at and below this path; "" is the whole origin.
        reason: Only those of this reason; None: all.
        dismissed: Also those that the user has dismissed.
        after: The last one of the page before.
        limit: How long a page is.
    """
    this, last = encode_path(under), encode_path(after.path) if after else b""
    where = "" if dismissed else " AND dismissed = 0"
    where += " AND reason = :reason" if reason else ""
    where += " AND (path = :path OR (path > :first AND path < :end))" if under else ""
    where += " AND (path, reason) > (:last, :last_reason)" if after else ""
    values = {
        "origin": origin, "reason": reason and reason.value, "path": this, "first": this + b"/", "end": this + b"0",
        "last": last, "last_reason": after.reason.value if after else "", "limit": limit,
    }  # fmt: skip
    sql = (
        "SELECT path, reason, detail, since, dismissed FROM problems"
        f" WHERE origin = (SELECT num FROM configured WHERE id = :origin){where} ORDER BY path, reason LIMIT :limit"
    )
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        rows = db.execute(sql, values).fetchall()
    return [
        ProblemRow(origin, decode_path(path), Reason(reason), detail, since, bool(gone))
        for path, reason, detail, since, gone in rows
        if reason in _KNOWN
    ]
