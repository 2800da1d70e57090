"""Reads XML from a server, such as a listing, in bounded memory and without declarations in the document.

The time grows with the document: call it in worker threads, not on an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_DEEPEST = 16
_MAX_PARTS = 64
"""Elements of one record, and of everything outside of records."""
_PIECE = 256 << 10
"""Bytes that expat gets at once. It holds the interpreter's lock for one piece, and reads a token that spans several
pieces again with each of them."""


def read_records(body: bytes, name: str, most: int, take: Callable[[Element], None], *, whole: bool = True) -> Element:
    """Hands out the records of a document in their order, and returns its root without them.

    Args:
        body: the document.
        name: of the records, which are children of the root; in any namespace.
        most: records that the document may have.
        take: takes each record as soon as it is complete; may raise.
        whole: the document must be complete; otherwise it may end anywhere.

    Raises:
        ValueError: it is not XML, is larger than allowed, or declares a document type, with which a small document can
            grow without limit.
    """
    builder = _Builder(name, most, take)
    parser = ElementTree.XMLParser(target=builder)
    try:
        for at in range(0, len(body), _PIECE):
            parser.feed(body[at : at + _PIECE])
        if whole:
            parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if builder.root is None:
        raise ValueError("not XML: it has no elements")
    return builder.root


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree. Its methods in Python also let other threads run, which a parser in C alone does not."""

    def __init__(self, name: str, most: int, take: Callable[[Element], None]) -> None:
        super().__init__()
        self.root: Element | None = None
        self._name = name
        self._left = most
        self._take = take
        self._depth = 0
        self._parts = _MAX_PARTS
        self._outside = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, which is not allowed here")

    def start(self, tag: str, attrs: Mapping[str, str]) -> Element:
        self._depth += 1
        self._parts -= 1
        if self._depth == 2 and self._is_record(tag):
            self._outside, self._parts = self._parts + 1, _MAX_PARTS - 1
            self._left -= 1
        if self._depth > _DEEPEST or self._parts < 0 or self._left < 0:
            raise ValueError(f"there is more in it than was asked for, at <{tag[:60]}>")
        element = super().start(tag, dict(attrs))
        if self.root is None:
            self.root = element
        return element

    def end(self, tag: str) -> Element:
        element = super().end(tag)
        self._depth -= 1
        if self._depth == 1 and self._is_record(tag) and self.root is not None:
            self._parts = self._outside
            self.root.remove(element)
            self._take(element)
        return element

    def _is_record(self, tag: str) -> bool:
        return tag.rpartition("}")[2] == self._name
