"""Queries in beets' syntax: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import contextlib
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.query.conditions import All, AnyOf, Between, Condition, Contains, Equals, Matches, Not, Order
from musicfs.query.fields import QueryField, field_named
from musicfs.query.folding import index_form, search_form
from musicfs.query.syntax import MAX_CHARACTERS, QueryError, parse_query, parse_terms

NOW = datetime(2026, 6, 15, 12)


def field(name: str) -> QueryField:
    found = field_named(name)
    assert found is not None
    return found


def text(value: str, of: str | None = None) -> Contains:
    return Contains(None if of is None else field(of), value)


def number(of: str, low: float | None, high: float | None) -> Between:
    return Between(field(of), low, high)


MEANINGS: dict[str, Condition] = {
    "": All(()),
    "nina": text("nina"),
    "nina simone": All((text("nina"), text("simone"))),
    '"nina simone"': text("nina simone"),
    "artist:nina year:..1969": All((text("nina", "artist"), number("year", None, 1969))),
    "Artist:nina": text("nina", "artist"),
    'artist:"miles davis" so': All((text("miles davis", "artist"), text("so"))),
    "artist:'miles davis'": text("miles davis", "artist"),
    "artist: nina": All((text("", "artist"), text("nina"))),
    "format:mp3 | format:m4a": AnyOf((text("mp3", "format"), text("m4a", "format"))),
    "a b , c": AnyOf((All((text("a"), text("b"))), text("c"))),
    "a, b": AnyOf((text("a"), text("b"))),
    "a,b": text("a,b"),
    "a |": text("a"),
    "| a": text("a"),
    "^genre:rock -live": All((Not(text("rock", "genre")), Not(text("live")))),
    "artist::^Al?a$": Matches(field("artist"), "^Al?a$"),
    "artist::a|b": Matches(field("artist"), "a|b"),
    ":Ho.eless": Matches(None, "Ho.eless"),
    "::Ho.eless": Matches(None, "Ho.eless"),
    "title:=Blue": Equals(field("title"), "Blue", False),
    "title:=~blue": Equals(field("title"), "blue", True),
    "=Blue": Equals(None, "Blue", False),
    "don't stop": All((text("don't"), text("stop"))),
    "'round midnight": All((text("'round"), text("midnight"))),
    '"unclosed': text('"unclosed'),
    "AC/DC": text("AC/DC"),
    r"two\ words": text("two words"),
    r"\-live": text("-live"),
    "-": text("-"),
    "year:1959": number("year", 1959, 1959),
    "year:1950..1959": number("year", 1950, 1959),
    "year:1959..": number("year", 1959, None),
    "year:": All(()),
    "bitrate:320k..": number("bitrate", 320_000, None),
    "length:4:00..5:30": number("length", 240, 330.999),
    "length:1:00:00..": number("length", 3600, None),
    "duration:90.5": number("length", 90.5, 90.5),
    "comp:true": number("comp", 1, 1),
    "compilation:no": number("comp", 0, 0),
    "mb_albumid:abc": text("abc", "musicbrainz_albumid"),
}


@pytest.mark.parametrize(("query", "condition"), MEANINGS.items())
def test_a_query_means_what_it_means_in_beets(query: str, condition: Condition) -> None:
    assert parse_query(query, NOW).condition == condition


@pytest.mark.parametrize(
    ("dates", "first", "last"),
    [
        ("2024", datetime(2024, 1, 1), datetime(2024, 12, 31, 23, 59, 59)),
        ("2024-02", datetime(2024, 2, 1), datetime(2024, 2, 29, 23, 59, 59)),
        ("2024-12", datetime(2024, 12, 1), datetime(2024, 12, 31, 23, 59, 59)),
        ("2024-05-31", datetime(2024, 5, 31), datetime(2024, 5, 31, 23, 59, 59)),
        ("2024-05-31T10", datetime(2024, 5, 31, 10), datetime(2024, 5, 31, 10, 59, 59)),
        ("2023..2024-05", datetime(2023, 1, 1), datetime(2024, 5, 31, 23, 59, 59)),
        ("-60d..", datetime(2026, 4, 16, 12), None),
        ("..-2w", None, datetime(2026, 6, 1, 12)),
    ],
)
def test_dates_stand_for_whole_years_months_and_days(dates: str, first: datetime | None, last: datetime | None) -> None:
    found = parse_query(f"added:{dates}", NOW).condition
    assert isinstance(found, Between)
    assert found.low == (None if first is None else first.timestamp())
    assert (found.high is None) == (last is None)
    if last is not None and found.high is not None:
        assert 0 <= found.high - last.timestamp() < 1


def test_words_that_end_with_plus_or_minus_sort_if_they_are_fields() -> None:
    query = parse_query("nina+ added- artist+", NOW)
    assert query.condition == text("nina+")
    assert query.orders == (Order(field("added"), True), Order(field("artist"), False))


def test_each_of_several_arguments_is_a_term_whose_quotes_the_shell_took() -> None:
    assert parse_terms(["artist:nina simone", "-live at", "so what"]).condition == All(
        (text("nina simone", "artist"), Not(text("live at")), text("so what"))
    )
    assert parse_terms(["artist:nina simone"]).condition == All((text("nina", "artist"), text("simone")))
    assert parse_terms([]).condition == All(())


@pytest.mark.parametrize(
    ("query", "position", "words"),
    [
        ("nina artits:x", 5, "there is no field 'artits', but there is 'artist'"),
        ("http://x", 0, "there is no field 'http', put text in quotes"),
        ("  year:abc", 7, "year takes a number such as 1959"),
        ("a year:1..2..3", 7, "year takes"),
        ("added:soon", 6, "added takes a date"),
        ("added:2024-13", 6, "added takes a date"),
        ("added:-999999y..", 6, "added takes a relative date"),
        ("length:long", 7, "length takes a duration"),
        ("comp:maybe", 5, "comp takes true or false"),
        ("artist::[", 8, "is no regular expression"),
        ("year::19", 6, "year takes no regular expression"),
        ("path::x", 6, "path takes no regular expression"),
        ("path+", 0, "results can't be sorted by path"),
        ("x" * (MAX_CHARACTERS + 1), MAX_CHARACTERS, "longer than"),
        ("a " * 101, 200, "more than 100 terms"),
    ],
)
def test_what_means_nothing_is_said_with_the_character(query: str, position: int, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_query(query, NOW)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert f"at character {position + 1}: " in str(caught.value)


@given(st.text(max_size=60) | st.text(alphabet="ab:=~^-|,'\"\\ .+[(", max_size=30))
def test_any_text_is_a_query_or_an_error_with_a_sentence(query: str) -> None:
    with contextlib.suppress(QueryError):
        parse_query(query, NOW)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("Björk", "bjork"), ("SIGUR RÓS", "sigur ros"), ("Mötley Crüe", "motley crue"), ("Ørsted", "orsted"),
        ("Straße", "strasse"), ("Łódź", "lodz"), ("Don’t", "don't"), ("ＡＢＣ", "abc"), ("ガ", "ガ"), ("Ёлка", "елка"),
    ],
)  # fmt: skip
def test_searches_compare_text_without_case_and_diacritics(written: str, form: str) -> None:
    assert search_form(written) == form


def test_two_syllables_are_a_run_of_three() -> None:
    assert index_form(search_form("音楽")) == "音音楽楽"
    assert index_form("abc") == "abc"
