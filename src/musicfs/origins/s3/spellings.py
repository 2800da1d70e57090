"""How the key of a path may be written at the server. Some escape the keys of their listings in ways of their own."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, unquote_plus

from musicfs.origins.bounds import is_usable

_MAX_KNOWN = 4096


def unescaped(key: str) -> str:
    """Returns the key that a listing with EncodingType=url means. Raises UnicodeDecodeError.

    Amazon writes a space as "+". A key that has "%20" is of a server that does not, and "+" is itself there.
    """
    return unquote(key, errors="strict") if "%20" in key else unquote_plus(key, errors="strict")


def _is_sane(key: str) -> bool:
    """Whether a key that no listing gave may be asked for: it stays in its folder, whatever a proxy makes of it."""
    return key.isprintable() and all(map(is_usable, key.split("/")))


class Spellings:
    """The keys to ask for, by the keys of the listing. Remembers which one a server knows."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, key: str) -> Sequence[str]:
        """Returns the keys to try, one after the other while the server has none."""
        spellings = [self._known.get(key, key), key]
        if " " in key:  # the listing may have left "+" as it is; one with both is never ambiguous (see `unescaped`)
            spellings.append(key.replace(" ", "+"))
        if "%" in key:  # the listing may be escaped without saying so
            spellings.append(unquote(key))
        return tuple(dict.fromkeys(spelling for spelling in spellings if spelling == key or _is_sane(spelling)))

    def learn(self, key: str, spelling: str) -> None:
        """Remembers the spelling under which the server has the key."""
        if spelling == self._known.get(key, key):
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[key] = spelling
