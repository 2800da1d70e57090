"""Reads queries. grammar.lark has the syntax; this gives its terms their meaning."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import resources

from lark import Lark, Token, Tree, UnexpectedInput

from musicfs.errors import UserError
from musicfs.query.conditions import All, AnyOf, Between, Condition, Contains, Equals, Matches, Not, Order, Query
from musicfs.query.fields import FIELDS, FieldKind, QueryField, field_named
from musicfs.query.ranges import parse_range
from musicfs.texts import said

MAX_CHARACTERS = 2000
"""No query of a person's is longer."""
MAX_TERMS = 100
_MAX_PATTERN_BYTES = 1 << 20
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ORDER = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)([+-])")


class QueryError(UserError):
    """A query that means nothing. position: of the character that it is about, from 0."""

    def __init__(self, sentence: str, position: int) -> None:
        super().__init__(f"The query can't be read at character {position + 1}: {sentence}.")
        self.position = position


def parse_query(text: str, now: datetime | None = None) -> Query:
    """Returns what the query means.

    Args:
        text: The query, in beets' syntax.
        now: What relative dates count from; the present if it is None.

    Raises:
        QueryError: It names a field that does not exist, or gives one a value that it can't have.
    """
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"it is longer than {MAX_CHARACTERS:,} characters", MAX_CHARACTERS)
    body = text.rstrip()
    offset = len(body) - len(body.lstrip())
    try:
        tree = _grammar().parse(body.lstrip())
    except UnexpectedInput as error:
        at = min(max(error.pos_in_stream or 0, 0), len(body))
        raise QueryError("this is no term; put text with special characters in quotes", at + offset) from None
    reader = _TermReader(offset, datetime.now() if now is None else now)
    trees = [each for each in tree.children if isinstance(each, Tree)]
    alternatives = [reader.alternative(each) for each in trees if each.children] or [All(())]
    condition = alternatives[0] if len(alternatives) == 1 else AnyOf(tuple(alternatives))
    return Query(condition, tuple(reader.orders))


def parse_terms(arguments: Sequence[str], now: datetime | None = None) -> Query:
    """Returns what the arguments of a command line mean: a single one is a query; each of several is one term, for
    which the shell has taken the quotes away."""
    if len(arguments) == 1:
        return parse_query(arguments[0], now)
    return parse_query(" ".join(_as_term(argument) for argument in arguments), now)


def _as_term(argument: str) -> str:
    if not re.search(r"\s", argument):
        return argument
    found = re.match(r"([-^]?(?:[A-Za-z_][A-Za-z0-9_-]*:)?(?::|=~|=)?)(.*)", argument, re.DOTALL)
    assert found is not None
    return found[1] + '"' + re.sub(r'(["\\])', r"\\\1", found[2]) + '"'


@cache
def _grammar() -> Lark:
    return Lark(resources.files(__package__).joinpath("grammar.lark").read_text("utf-8"), parser="lalr")


class _TermReader:
    """Gives terms their meaning. offset: of the parsed text in the query. orders: the terms that sort, as they come."""

    def __init__(self, offset: int, now: datetime) -> None:
        self._offset = offset
        self._now = now
        self._terms = 0
        self.orders: list[Order] = []

    def alternative(self, tree: Tree[Token]) -> Condition:
        terms = [self._term(each) for each in tree.children if isinstance(each, Tree)]
        conditions = tuple(term for term in terms if term is not None)
        return conditions[0] if len(conditions) == 1 else All(conditions)

    def _term(self, tree: Tree[Token]) -> Condition | None:
        tokens = {each.type: each for each in tree.children if isinstance(each, Token)}
        value = next((each.children[0] for each in tree.children if isinstance(each, Tree)), None)
        assert value is None or isinstance(value, Token)
        first = min((each for each in (*tokens.values(), value) if each is not None), key=_start)
        self._count(first)
        if value is not None and not tokens and self._orders(value):
            return None
        field = self._field(tokens["FIELD"]) if "FIELD" in tokens else None
        at = _start(first) if value is None else _start(value)
        condition = self._condition(field, str(tokens.get("OPERATOR", "")), _value(value), at)
        return Not(condition) if "NOT" in tokens else condition

    def _count(self, token: Token) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise QueryError(f"it has more than {MAX_TERMS} terms", _start(token) + self._offset)

    def _orders(self, token: Token) -> bool:
        """Takes a term such as `year+` for an order. Other words with such an end are text."""
        found = _ORDER.fullmatch(str(token)) if token.type == "WORD" else None
        field = None if found is None else field_named(found[1])
        if found is None or field is None:
            return False
        if field.name in _UNSORTED:
            raise QueryError(f"results can't be sorted by {field.name}", _start(token) + self._offset)
        self.orders.append(Order(field, found[2] == "-"))
        return True

    def _field(self, token: Token) -> QueryField:
        name = str(token)[:-1]
        field = field_named(name)
        if field is not None:
            return field
        names = [each for one in FIELDS for each in (one.name, *one.aliases)]
        near = difflib.get_close_matches(name.lower(), names, 1)
        known = ", ".join(one.name for one in FIELDS)
        advice = f"but there is {near[0]!r}" if near else f"put text in quotes, or use one of these: {known}"
        sentence = f"there is no field {said(name)!r}, {advice}"
        raise QueryError(sentence, _start(token) + self._offset)

    def _condition(self, field: QueryField | None, operator: str, text: str, at: int) -> Condition:
        if operator == ":":
            # Without a field, people write one colon or two.
            return self._regular_expression(field, text if field else text.removeprefix(":"), at)
        if field is None or field.kind is FieldKind.TEXT:
            return Equals(field, text, operator == "=~") if operator else Contains(field, text)
        if not text:
            return All(())
        try:
            return Between(field, *parse_range(field.kind, text, self._now))
        except ValueError as error:
            sentence = f"{field.name} takes {error}, and not {said(text)!r}"
            raise QueryError(sentence, at + self._offset) from None

    def _regular_expression(self, field: QueryField | None, pattern: str, at: int) -> Condition:
        if field is not None and (field.kind is not FieldKind.TEXT or field.name in _NO_EXPRESSIONS):
            raise QueryError(f"{field.name} takes no regular expression", at + self._offset)
        import re2

        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MAX_PATTERN_BYTES
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            reason = said(error.args[0].decode() if isinstance(error.args[0], bytes) else error)
            sentence = f"{said(pattern)!r} is no regular expression ({reason})"
            raise QueryError(sentence, at + self._offset) from None
        return Matches(field, pattern)


_UNSORTED = frozenset(("origin", "problem", "path", "copies"))
_NO_EXPRESSIONS = frozenset(("origin", "problem", "path"))


def _start(token: Token) -> int:
    return token.start_pos or 0


def _value(token: Token | None) -> str:
    if token is None:
        return ""
    text = str(token)[1:-1] if token.type == "QUOTED" else str(token)
    return _ESCAPED.sub(r"\1", text)
