"""The form of text in which a search compares it: without case, diacritics, and differences of width or quotes."""

from __future__ import annotations

import re
import unicodedata

from musicfs.texts import alike

_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"})
# Marks of Japanese, of Indic scripts and the like make other letters, and stay.
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u064b-\u065f\u0670]+")
# Scripts in which one character is a syllable or a word, so that two are worth looking for.
_SYLLABLES = re.compile(
    "([\u1100-\u11ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff])"
)


def search_form(text: str) -> str:
    """Returns the text as searches compare it. Equal forms are equal to a search."""
    folded = alike(text)
    if folded.isascii():
        return folded
    plain = _MARKS.sub("", unicodedata.normalize("NFD", folded))
    return unicodedata.normalize("NFC", plain).translate(_LETTERS)


def index_form(form: str) -> str:
    """Returns a search form as it is indexed by runs of three characters: each syllable counts twice, so that two
    of them are found, too."""
    return form if form.isascii() else _SYLLABLES.sub(r"\1\1", form)
