"""Text that is made to keep a program busy, and what runs in a process with a budget on it."""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import sys
from collections.abc import Callable, Iterator

import musicfs
from musicfs.catalog.rows import Copy, FolderFile, TreeEntry
from musicfs.config.load import shown_url
from musicfs.library.naming import resolve_names
from musicfs.library.placement import FolderPlacer, fold, folder_of
from musicfs.origins.s3.errors import error_code
from musicfs.origins.s3.listing import parse_page
from musicfs.system.mounts import parse_mounts
from musicfs.tags.discs import disc_at_end, disc_from_folder
from musicfs.tags.names import safe_component, safe_filename, split_extension, with_suffix_tag
from musicfs.tags.tags import Tags, role_of
from musicfs.tags.templates import Album, Template, TemplateError, track_fields
from musicfs.texts import printable, said, without_hidden

_N = 100_000
_UNITS = [
    " ", "\t ", "a", "1", "0", "-", " -", ".", ".1", "1.", "(", "[", "${", "${a", "$", "://:", ":@", "://@:", " :", ":",
    " feat x", " feat x\n", " (feat. ", "cd", "cd ", "1999999 ", "hi-res ", "\u0301", "\u0301\u0323", "\u0323\u0301",
    "\u200d", "a\u200d", "\u202e", "\udcff", "\x00", "\r\n", "/", "a/", "\\134", "\\777", " - ", "a b - ", "<Code>",
    "con", "conin$ ", "&amp;", "=", "\u3000", "가", "\uac00\u11a8",
]  # fmt: skip


def texts() -> Iterator[str]:
    """Runs of one thing, with and without something before and behind them."""
    for unit in _UNITS:
        run = unit * (_N // len(unit))
        half = unit * (_N // len(unit) // 2)
        yield from (run, f"a{run}b", f"cd{run}x", f"1{run}", f"{half}x{half}")
    yield "a" + "\u0301" * (_N // 2) + "\u0323" * (_N // 2)


def expressions() -> None:
    """Every expression that a module of ours holds, as it is matched, on every text."""
    for module in pkgutil.walk_packages(musicfs.__path__, "musicfs."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, re.Pattern):
                for text in texts():
                    given = text.encode("utf-8", "surrogatepass") if isinstance(value.pattern, bytes) else text
                    value.match(given)
                    value.fullmatch(given)


def _template(text: str) -> None:
    try:
        Template.parse(text).render({"artist": text})
    except TemplateError:
        return


def _page(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    for answer in (body, b"<ListBucketResult><Contents><Key>" + body + b"</Key></Contents></ListBucketResult>"):
        try:
            parse_page(answer)
        except ValueError:
            continue
    error_code(body)
    error_code(b"<Error><Code>" + body)


def _placed(text: str) -> None:
    tags = Tags("flac", "flac", title=text[:2000] or None, artist=text[:2000] or None, album=text[:2000] or None)
    path = "/".join(part[:60] for part in text[:4000].split("/") if part) or "a"
    files = [FolderFile(number, "a", f"{path}/{number}.flac", "audio", number, None) for number in range(3)]
    FolderPlacer(Template.parse("$albumartist/$album ($year)/$track - $title.$format"), files).entries({}, {})
    track_fields(tags, path, Album(), disc_prefix=True)


def _settled(text: str) -> None:
    names = [safe_component(text[start : start + 40]) for start in range(0, 4000, 20)]
    entries = [TreeEntry(n, "", name, name, False, name[:9], n) for n, name in enumerate(names)]
    resolve_names(entries, {n: [Copy(n, "a", name, n, True, 0)] for n, name in enumerate(names)}, names[:9])


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "safe_component": safe_component,
    "safe_filename": lambda text: safe_filename(text, text),
    "split_extension": split_extension,
    "with_suffix_tag": lambda text: with_suffix_tag(text, text),
    "fold": fold,
    "folder_of": lambda text: (folder_of(text, "audio"), folder_of(text, "sidecar")),
    "role_of": role_of,
    "disc_at_end": disc_at_end,
    "disc_from_folder": lambda text: disc_from_folder(f"{text}/a.flac"),
    "placing": _placed,
    "resolve_names": _settled,
    "template": _template,
    "printable": lambda text: (printable(text), said(text), without_hidden(text)),
    "shown_url": shown_url,
    "parse_page": _page,
    "parse_mounts": lambda text: (parse_mounts(text), parse_mounts(f"1 2 0:1 / {text} rw - {text}")),
}


def call(*names: str) -> None:
    for name in names:
        function = FUNCTIONS[name]
        print(name, file=sys.stderr)  # so that the last one is named if the budget ends
        for text in texts():
            function(text)


def fuzz_all(seed: int, cases: int) -> None:
    """Pieces of such texts in any order."""
    chance = random.Random(seed)
    for name, function in FUNCTIONS.items():
        print(name, file=sys.stderr)
        for _ in range(cases):
            function("".join(chance.choice(_UNITS) * chance.choice((1, 1, 2, 50)) for _ in range(chance.randrange(60))))
