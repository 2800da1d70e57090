"""Readers of the formats that are one bare stream of audio or notes, with tags around it."""

from __future__ import annotations

import struct
from typing import NamedTuple

from mutagen.ac3 import AC3Info
from mutagen.monkeysaudio import MonkeysAudioInfo
from mutagen.musepack import MusepackInfo
from mutagen.optimfrog import OptimFROGInfo
from mutagen.smf import SMFInfo
from mutagen.tak import TAKInfo
from mutagen.trueaudio import TrueAudioInfo

from musicfs.tags.fields import parse
from musicfs.tags.outer_tags import outer_values
from musicfs.tags.range_file import Unreadable
from musicfs.tags.sources import TagSource, TagValues, average, describe


def wavpack(source: TagSource) -> TagValues:
    file = source.file
    samples, flags = struct.unpack("<12xI8xI", file.read_at(source.start, 28))
    rate = _WAVPACK_RATES.get(flags >> 23 & 15)
    found = TagValues("wv", "wavpack", outer_values(source, ape_first=True), sample_rate=rate)
    found.channels, found.bit_depth = 1 if flags & 4 else 2, ((flags & 3) + 1) * 8
    if rate is None:
        rate = found.sample_rate = int.from_bytes(_wavpack_item(source, 0x27)[:4], "little") or None
    if rate and flags >> 31:  # DSD: one-bit samples, counted by eight
        rate <<= min(_wavpack_item(source, 0x0E)[0], 8)
        found.sample_rate, found.bit_depth = rate * 8, 1
    found.duration_s = samples / rate if rate and samples != 0xFFFFFFFF else None
    found.bitrate = average(file.size, found.duration_s)
    return found


def _wavpack_item(source: TagSource, kind: int) -> bytes:
    """The start of an item of metadata in the first block; zeros: it has none."""
    at = source.start + 32
    end = source.start + 8 + int.from_bytes(source.file.read_at(source.start + 4, 4), "little")
    for _ in range(_MAX_ITEMS):
        head = source.file.read_at(at, 8)
        if len(head) < 2 or at >= end:
            break
        size, start = (int.from_bytes(head[1:4], "little"), 4) if head[0] & 0x80 else (head[1], 2)
        if head[0] & 0x3F == kind:
            return head[start : start + min(2 * size, 4)].ljust(4, b"\0")
        at += start + 2 * size
    return bytes(4)


def ape(source: TagSource) -> TagValues:
    found = TagValues("ape", "ape", outer_values(source, ape_first=True))
    source.file.seek(source.start)
    info = MonkeysAudioInfo(source.file)
    describe(found, info)
    found.bit_depth = info.bits_per_sample
    found.bitrate = average(source.file.size, found.duration_s)
    return found


def musepack(source: TagSource) -> TagValues:
    found = TagValues("mpc", "musepack", outer_values(source, ape_first=True))
    source.file.seek(source.start)
    describe(found, MusepackInfo(source.file))
    return found


def tta(source: TagSource) -> TagValues:
    found = TagValues("tta", "tta", outer_values(source))
    describe(found, TrueAudioInfo(source.file, source.start))
    found.channels, found.bit_depth = struct.unpack("<HH", source.file.read_at(source.start + 6, 4))
    found.bitrate = average(source.file.size, found.duration_s)
    return found


def tak(source: TagSource) -> TagValues:
    found = TagValues("tak", "tak", outer_values(source, ape_first=True))
    source.file.seek(source.start)
    info = TAKInfo(source.file)
    describe(found, info)
    found.bit_depth = info.bits_per_sample
    found.bitrate = average(source.file.size, found.duration_s)
    return found


def optimfrog(source: TagSource) -> TagValues:
    kind = "ofs" if source.extension == "ofs" else "ofr"
    found = TagValues(kind, "optimfrog", outer_values(source, ape_first=True))
    source.file.seek(source.start)
    info = OptimFROGInfo(source.file)
    describe(found, info)
    found.bit_depth = info.bits_per_sample
    found.bitrate = average(source.file.size, found.duration_s)
    return found


def ac3(source: TagSource) -> TagValues:
    """Dolby Digital, and Dolby Digital Plus (E-AC-3)."""
    source.file.seek(source.start)
    info = AC3Info(source.file)
    kind = {"ec-3": "eac3"}.get(info.codec, "ac3")
    found = TagValues(kind, kind, outer_values(source, ape_first=True))
    describe(found, info)
    return found


def midi(source: TagSource) -> TagValues:
    """Notes, whose duration is known only when all are read."""
    if source.file.size > _MAX_NOTES:
        raise Unreadable("the MIDI file is too long to be timed, and has no tags")
    source.file.seek(source.start)
    found = TagValues("mid", "midi", outer_values(source))
    describe(found, parse(SMFInfo, source.file))
    return found


def module(source: TagSource) -> TagValues:
    """A module of a tracker has a title, at a place that depends on the program."""
    head = source.file.read_at(source.start, 1084)
    for each in _MODULES:
        if head.startswith(each.magic, each.magic_at):
            text = head[each.title_at : each.title_at + each.title_size].partition(b"\0")[0].decode("cp437").strip()
            if not text:
                raise Unreadable("the module has no title")
            return TagValues(each.kind, each.kind, {"title": [text]})
    raise Unreadable("the file is no module that MusicFS knows")


class _Module(NamedTuple):
    magic: bytes | tuple[bytes, ...]
    magic_at: int
    kind: str
    title_at: int
    title_size: int


_MODULES = (
    _Module(b"Extended Module: ", 0, "xm", 17, 20),
    _Module(b"IMPM", 0, "it", 4, 26),
    _Module(b"SCRM", 44, "s3m", 0, 28),
    _Module((b"M.K.", b"M!K!", b"FLT4", b"FLT8", b"4CHN", b"6CHN", b"8CHN"), 1080, "mod", 0, 20),
)
_MAX_ITEMS = 32
_MAX_NOTES = 128 * 1024
_WAVPACK_RATES = dict(
    enumerate((6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 192000))
)
