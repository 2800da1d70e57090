"""Files that are made to keep a parser busy, and what runs in a process with a budget to read them."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from musicfs.system import confinement
from musicfs.tags import parser
from musicfs.tags.range_file import MAX_IN_ALL, NeedRange, RangeFile, TagsTooLarge, Unreadable
from musicfs.tags.tags import Tags, read_tags

MEGABYTES = 8
"""So large are the files, more or less."""
_N = 1_000_000


def comments(pairs: Iterable[bytes]) -> bytes:
    each = list(pairs)
    vendor = struct.pack("<I", 1) + b"x"
    return vendor + struct.pack("<I", len(each)) + b"".join(struct.pack("<I", len(pair)) + pair for pair in each)


def flac(body: bytes) -> bytes:
    stream = struct.pack(">HH6xQ16x", 4096, 4096, (44100 << 44) | (1 << 41) | (15 << 36) | 441_000)
    return b"fLaC\0\0\0\x22" + stream + b"\x84" + len(body).to_bytes(3, "big") + body


def ogg_page(number: int, segments: bytes, body: bytes) -> bytes:
    return struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 48000, 1, number, 0, len(segments)) + segments + body


def ogg(header: bytes, packet: bytes, segments: int = 255) -> bytes:
    """The packet on pages of so many segments."""
    pages = [ogg_page(0, bytes([len(header)]), header)]
    for start in range(0, len(packet), segments * 255):
        part = packet[start : start + segments * 255]
        pages.append(ogg_page(1, bytes([255] * (len(part) // 255) + [len(part) % 255] * (len(part) % 255 > 0)), part))
    return b"".join(pages)


OPUS = b"OpusHead" + struct.pack("<BBHIHB", 1, 2, 0, 48000, 0, 0)
VORBIS = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 2, 44100, 0, 128000, 0, 0xB8, 1)
KEYS: dict[str, Callable[[int], bytes]] = {
    "different": lambda number: b"k%x=" % number,
    "one": lambda number: b"ARTIST=%x" % number,
    "empty": lambda number: b"",
}


def ape(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    each = list(items)
    body = b"".join(struct.pack("<II", len(value), 0) + key + b"\0" + value for key, value in each)
    footer = b"APETAGEX" + struct.pack("<IIII8x", 2000, len(body) + 32, len(each), 0)
    return b"\xff\xfb\x90\x64" + bytes(413) + body + footer


def id3(frames: bytes, major: int = 3) -> bytes:
    size = bytes(len(frames) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([major, 0, 0]) + size + frames + (b"\xff\xfb\x90\x64" + bytes(413)) * 10


def frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">IH", len(body), 0) + body


def atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def mp4(ilst: bytes) -> bytes:
    meta = bytes(4) + atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + atom(b"ilst", ilst)
    movie = atom(b"mvhd", bytes(100)) + atom(b"udta", atom(b"meta", meta))
    return atom(b"ftyp", b"M4A " + bytes(4)) + atom(b"moov", movie)


def nested(depth: int, times: int) -> bytes:
    return atom(b"udta" if depth < 5 else b"moov", nested(depth - 1, times) * times if depth else b"x" * 8)


def freeform(name: bytes, value: bytes) -> bytes:
    data = atom(b"mean", bytes(4) + b"com.apple.iTunes") + atom(b"name", bytes(4) + name)
    return atom(b"----", data + atom(b"data", struct.pack(">II", 1, 0) + value))


def riff(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
ASF_ATTRIBUTES = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
ASF_LIBRARY = bytes.fromhex("941c23449894d149a1411d134e457054")


def asf_object(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<Q", 24 + len(body)) + body


def asf(objects: bytes) -> bytes:
    stream = asf_object(ASF_FILE, bytes(40) + struct.pack("<3Q", 10**8, 0, 0))
    head = struct.pack("<QIH", 30 + len(stream) + len(objects), 1, 0x0201)
    return ASF + head + stream + objects


def asf_nested(depth: int, inside: bytes) -> bytes:
    """Header extensions, each within the one before."""
    heads = []
    for level in range(depth - 1, -1, -1):
        size = len(inside) + level * 46
        heads.append(ASF_EXTENSION + struct.pack("<Q18xI", 46 + size, size))
    return b"".join(heads) + inside


def asf_attribute(name: str, value: bytes, type: int = 0) -> bytes:
    encoded = name.encode("utf-16-le") + bytes(2)
    return struct.pack("<H", len(encoded)) + encoded + struct.pack("<HH", type, len(value)) + value


def _asf_attributes(count: int) -> bytes:
    body = b"".join(asf_attribute(f"Author{number % 7}", bytes(20)) for number in range(count))
    return asf_object(ASF_ATTRIBUTES, struct.pack("<H", count) + body)


def _commented(name: str) -> bytes:
    kind, _, extension = name.partition(".")
    body = comments(map(KEYS[kind], range(_N)))
    if extension == "flac":
        return flac(body[: 2**24 - 1])
    return ogg(OPUS, b"OpusTags" + body) if extension == "opus" else ogg(VORBIS, b"\x03vorbis" + body)


FILES: dict[str, Callable[[], bytes]] = {
    f"{kind}.{extension}": partial(_commented, f"{kind}.{extension}")
    for kind in KEYS
    for extension in ("flac", "opus", "ogg")
} | {
    "many blocks.flac": lambda: flac(b"")[:42] + b"\x04\0\0\x09" * 1 + comments([]) + b"\x04\0\0\x00" * 100_000,
    "small pages.opus": lambda: ogg(OPUS, b"OpusTags" + comments(map(KEYS["different"], range(_N))), 1),
    "a comment that does not end.opus": lambda: ogg(OPUS, b"OpusTags" + comments([b"k=" + b"x" * 12_000_000])),
    "many long ones.flac": lambda: flac(comments(b"ARTIST=" + b"x" * 60_000 for _ in range(270))),
    "keys.ape": lambda: ape((b"k%x" % number, b"x") for number in range(300_000)),
    "values.ape": lambda: ape([(b"Artist", b"\0".join(b"%x" % number for number in range(10_000)))] * 200),
    "frames.mp3": lambda: id3(b"".join(frame(b"TXXX", b"\0%x\0x" % number) for number in range(150_000))),
    "one frame.mp3": lambda: id3(frame(b"TPE1", b"\0x") * 150_000),
    "genres.mp3": lambda: id3(frame(b"TCON", b"\0" + b"\0".join(b"%x" % number for number in range(10_000))) * 60, 4),
    "genre.mp3": lambda: id3(frame(b"TCON", b"\0" + b"(1)" * 20_000 + b"x") * 30),
    "values.mp3": lambda: id3(frame(b"TPE1", b"\0" + b"\0".join(b"%x" % number for number in range(10_000))) * 60),
    "tags.mp3": lambda: id3(b"") * 5_000,
    "people.mp3": lambda: id3(frame(b"TIPL", b"\0" + b"x\0" * 30_000) * 60),
    "blanks.mp3": lambda: id3(frame(b"TPE1", b"\0a" + b" " * 60_000 + b"b") + frame(b"TRCK", b"\0" + b" " * 60_000)),
    "freeform.m4a": lambda: mp4(b"".join(freeform(b"k%x" % number, b"x") for number in range(100_000))),
    "values.m4a": lambda: mp4(freeform(b"ARTISTS", b"x") * 100_000),
    "atoms.m4a": lambda: mp4(atom(b"\xa9ART", b"") * 1_000_000),
    "deep.m4a": lambda: nested(5, 20),
    "info.wav": lambda: riff([(b"LIST", b"INFO" + b"zzzz\0\0\0\0" * 7_000)] * 140),
    "tags.wav": lambda: riff([(b"id3 ", b"ID3\x03\0\0\0\x7f\x7f\x7f")] * 1000 + [(b"junk", bytes(2_000_000))]),
    "chunks.aif": lambda: b"FORM\0\0\0\0AIFF" + b"junk\0\0\0\0" * 1_000_000,
    "circle.mpc": lambda: b"MPCK" + b"AP\x80\x03" * 8,
    "nested.wma": lambda: asf(asf_nested(10_000, asf_object(bytes(16), bytes(2_000_000)))),
    "attributes.wma": lambda: asf(_asf_attributes(60_000)),
    "many attributes.wma": lambda: asf(b"".join(_asf_attributes(900) for _ in range(100))),
    "objects.wma": lambda: asf(asf_object(bytes(16), b"") * 300_000),
    "frames.aac": lambda: b"\xff\xf1\x50\x80\x00\xff\xfc" * 1_000_000,
    "sync.mp3": lambda: b"\xff\xfb" * 4_000_000,
    "headers.mp3": lambda: b"\xff\xfb\x90\x64" * 2_000_000,
}  # fmt: skip


def read(data: bytes, name: str) -> Tags | Unreadable:
    """As a scan does: the parser asks for what it lacks."""
    ranges: dict[int, bytes] = {}
    for _ in range(100):
        try:
            return read_tags(RangeFile(len(data), ranges), name)
        except Unreadable as unreadable:
            return unreadable
        except TagsTooLarge:
            return Unreadable("it is too large")
        except NeedRange as need:
            ranges[need.offset] = data[need.offset : need.offset + need.size]
    return Unreadable("it asked too often")


def read_file(path: str) -> None:
    """As a parser does that gets an open file."""
    about = Path(path).stat()
    with Path(path).open("rb") as file:
        found = parser.examine_open(file.fileno(), parser.FileOnDisk(path, "audio", about.st_size, about.st_mtime_ns))
    print(path, found)
    assert found is not None
    assert found.problem != parser.TOO_MUCH_MEMORY


def mutated(chance: random.Random, data: bytes) -> bytes:
    """The file with some bytes overwritten, cut out, repeated, or replaced by numbers that parsers stumble over."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 12))):
        # Most of what a parser looks at is near the ends.
        at = chance.randrange(min(len(changed), chance.choice((64, 2_000, len(changed)))))
        if chance.random() < 0.2:
            at = len(changed) - 1 - at
        kind, some = chance.randrange(5), chance.randrange(1, 200)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            changed[at : at + 4] = chance.choice((bytes(4), b"\xff" * 4, b"\x7f" * 4, b"\x80\0\0\0", b"\0\0\0\x08"))
        elif kind == 2:
            changed[at:at] = changed[at : at + some] * chance.choice((1, 5, 300))
        elif kind == 3:
            del changed[at : at + some]
        else:
            changed[at : at + some] = chance.randbytes(some)
        if not changed:
            return b"x"
    return bytes(changed[:3_000_000])


def fuzz_files(paths: list[str], seed: int, cases: int) -> None:
    """Real files, mutated: each takes little time and memory, and is examined."""
    chance, limit = random.Random(seed), confinement.MemoryLimit.begin(1 << 29)
    files = [(path, Path(path).read_bytes()) for path in paths]
    for number in range(cases):
        path, whole = files[number % len(files)]
        data = mutated(chance, whole)
        limit.allow(parser.MEMORY)
        started = time.process_time()
        found = parser.examine(path, "audio", len(data), {0: data[:MAX_IN_ALL]})
        taken = time.process_time() - started
        assert isinstance(found, parser.Examined), (path, number, found)
        assert found.problem != parser.TOO_MUCH_MEMORY, (path, number)
        assert taken < 1, (path, number, taken)


def fuzz(seed: int, cases: int) -> None:
    """The same files cut, joined and overwritten at random places."""
    chance = random.Random(seed)
    small = [(name, make()[:200_000]) for name, make in FILES.items() if "different" in name or "." in name]
    for _ in range(cases):
        name, data = chance.choice(small)
        mutable = bytearray(data[: chance.choice((100, 3_000, 200_000))])
        for _ in range(chance.randrange(8)):
            at = chance.randrange(len(mutable))
            mutable[at : at + chance.randrange(9)] = chance.choice(
                (b"\xff" * 4, b"\x7f" * 4, bytes(4), chance.randbytes(4), mutable[: chance.randrange(99)])
            )
        read(bytes(mutable), name)
