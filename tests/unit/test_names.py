"""Names that every filesystem takes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from musicfs.tags.names import safe_component, safe_filename, split_extension, with_suffix_tag

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
"""Lone surrogates included: they are how Python spells the bytes of names that are not UTF-8."""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("OK Computer", "OK Computer"),
        ("AC/DC", "AC-DC"),
        ("A\\B|C", "A-B-C"),
        ("2001: A Space Odyssey", "2001 - A Space Odyssey"),
        ("Re:Stacks", "Re-Stacks"),
        ("Vol : 2", "Vol - 2"),
        ('"Heroes"', "'Heroes'"),
        ("Who Are You?", "Who Are You_"),
        ("M*A*S*H <live>", "M_A_S_H _live_"),
        ("R.E.M.", "R.E.M"),
        ("Etc. . .", "Etc"),
        ("...And Justice for All", "_..And Justice for All"),
        ("  padded  ", "padded"),
        ("tab\there", "tab_here"),
        ("caf\u0065\u0301", "café"),
        ("\udce9t\udce9", "_t_"),
        ("\ufffd", "\ufffd"),
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        ("...", "_"),
        ("CON", "CON_"),
        ("con.flac", "con_.flac"),
        ("Lpt1 ", "Lpt1_"),
        ("Contact", "Contact"),
        ("Aux Raus", "Aux Raus"),
    ],
)
def test_names_look_as_a_person_would_write_them(text: str, name: str) -> None:
    assert safe_component(text) == name


def test_a_long_name_is_cut_between_characters() -> None:
    assert safe_component("x" * 254 + "é") == "x" * 254
    assert safe_component("日" * 100) == "日" * 85


def test_a_combining_mark_stays_with_its_base() -> None:
    """The mark has no composed form with q, so it is a character of its own."""
    assert safe_component("x" * 253 + "q\u0323") == "x" * 253


def test_the_extension_survives_a_long_stem() -> None:
    assert safe_filename("x" * 300, "flac") == "x" * 250 + ".flac"
    assert safe_filename("a/b", "f/lac") == "a-b.flac"
    assert safe_filename("name", "") == "name"
    assert safe_filename("", "mp3") == "_.mp3"
    assert safe_filename("nul", "mp3") == "nul_.mp3"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.flac", ("a", "flac")),
        ("a.b.mp3", ("a.b", "mp3")),
        ("x.7z", ("x", "7z")),
        ("R.E.M", ("R.E.M", "")),
        ("Vol.22", ("Vol.22", "")),
        ("Mr. Bungle", ("Mr. Bungle", "")),
        (".flac", (".flac", "")),
        ("none", ("none", "")),
    ],
)
def test_only_what_looks_like_an_extension_is_one(name: str, parts: tuple[str, str]) -> None:
    assert split_extension(name) == parts


def test_colliding_names_are_told_apart_before_the_extension() -> None:
    assert with_suffix_tag("01 - T.flac", "nas 2") == "01 - T [nas 2].flac"
    assert with_suffix_tag("Album (1999)", "2") == "Album (1999) [2]"
    assert with_suffix_tag("x" * 250 + ".flac", "ab") == "x" * 245 + " [ab].flac"


@given(ANY_TEXT)
@example("CON." + "x" * 251)
@example("NUL" + " " * 300 + "x")
@example("a" * 254 + ". b")
@example("\u0301" * 300)
@example(": :x: ")
@example("<\u0338")
def test_any_text_becomes_a_safe_name_that_is_left_alone_the_second_time(text: str) -> None:
    name = safe_component(text)
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
    assert not name[0].isspace()
    assert not name[-1].isspace()
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert unicodedata.is_normalized("NFC", name)
    assert safe_component(name) == name


@given(ANY_TEXT, st.sampled_from(["flac", "m4a", ""]), st.text(max_size=80))
def test_file_names_stay_safe_with_and_without_a_tag(stem: str, ext: str, tag: str) -> None:
    name = safe_filename(stem, ext)
    assert safe_component(name) == name
    tagged = with_suffix_tag(name, tag)
    assert safe_component(tagged) == tagged
    assert name.endswith(f".{ext}" if ext else "")
    assert tagged.endswith(f"].{ext}" if ext else "")
