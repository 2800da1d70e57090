"""Readers of the formats that are rows of chunks: WAV (RIFF, RF64, W64), AIFF, DSDIFF, DSF and CAF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import takewhile

from musicfs.tags import skeletons
from musicfs.tags.containers import Segment, chunks, guid_chunks, large_chunks
from musicfs.tags.fields import Values, id3_values, merged, named
from musicfs.tags.outer_tags import outer_values
from musicfs.tags.range_file import RangeFile
from musicfs.tags.sources import TagSource, TagValues, average


def wav(source: TagSource) -> TagValues:
    return _wave(source, "wav", chunks(source.file, "<", source.start + 12))


def w64(source: TagSource) -> TagValues:
    return _wave(source, "w64", guid_chunks(source.file, source.start + 40))


def _wave(source: TagSource, kind: str, segments: Iterator[Segment]) -> TagValues:
    """Field by field, what the `id3 ` chunk says wins over what `LIST` says, and over tags around the file."""
    file, found, info, data = source.file, TagValues(kind, "pcm"), Values(), 0
    byte_rate = 0
    for name, start, stop in segments:
        if name == b"fmt ":
            code, channels, rate, byte_rate, _, bits = struct.unpack("<HHIIHH", file.read_at(start, 16))
            found.codec = {0x55: "mp3", 0x50: "mp2", 0xFF: "aac"}.get(code, "pcm")
            found.channels, found.sample_rate, found.bitrate = channels, rate, byte_rate * 8
            found.bit_depth = bits if found.codec == "pcm" else None
        elif name == b"data":
            data = stop - start
        elif name.lower() == b"id3 ":
            found.values = merged(found.values, id3_values(skeletons.id3(file, start)))
        elif name == b"LIST" and file.read_at(start, 4) == b"INFO":
            info = merged(
                info, named(_riff_info(file.read_at(start + 4, min(stop - start - 4, skeletons.MAX_TEXT))), "RIFF INFO")
            )
    found.values = merged(found.values, info, outer_values(source))
    found.duration_s = data / byte_rate if byte_rate else None
    return found


def _riff_info(data: bytes) -> dict[str, list[str]]:
    items = {}
    for name, start, stop in chunks(RangeFile(len(data), {0: data}), "<", at=0):
        raw = data[start:stop].rstrip(b"\0")
        items[name.decode("latin-1").lower()] = [_text(raw)]
    return items


def _text(raw: bytes) -> str:
    """Text whose encoding nothing says."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def aiff(source: TagSource) -> TagValues:
    """Field by field, what the `ID3 ` chunk says wins over what the chunks of plain text say."""
    file, found, texts = source.file, TagValues("aiff", "pcm"), Values()
    for name, start, stop in chunks(file, ">", source.start + 12):
        if name == b"COMM":
            channels, frames, bits, exponent, mantissa = struct.unpack(">hIhHQ", file.read_at(start, 18))
            rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)  # an 80-bit extended float
            found.channels, found.bit_depth, found.sample_rate = channels, bits, round(rate)
            found.duration_s = frames / rate if rate else None
            found.bitrate = round(rate * channels * bits)
        elif name in (b"ID3 ", b"id3 "):
            found.values = merged(found.values, id3_values(skeletons.id3(file, start)))
        elif name in _AIFF_TEXTS:
            texts.setdefault(_AIFF_TEXTS[name], [_text(file.read_at(start, min(stop - start, skeletons.MAX_TEXT)))])
    found.values = merged(found.values, texts)
    return found


_AIFF_TEXTS = {b"NAME": "title", b"AUTH": "artist"}


def dff(source: TagSource) -> TagValues:
    """DSDIFF: one-bit samples, or the same compressed (DST)."""
    file, found, data = source.file, TagValues("dff", "dsd"), 0
    for name, start, stop in _dff_chunks(source):
        if name == b"FS  ":
            found.sample_rate = int.from_bytes(file.read_at(start, 4), "big")
        elif name == b"CHNL":
            found.channels = int.from_bytes(file.read_at(start, 2), "big")
        elif name == b"CMPR" and file.read_at(start, 4) == b"DST ":
            found.codec = "dst"
        elif name == b"DSD ":
            data = stop - start
        elif name == b"ID3 ":
            found.values = merged(found.values, id3_values(skeletons.id3(file, start)))
        elif name in _DFF_TEXTS and not found.values.get(_DFF_TEXTS[name]):
            size = int.from_bytes(file.read_at(start, 4), "big")
            text = _text(file.read_at(start + 4, min(size, stop - start - 4, skeletons.MAX_TEXT)))
            found.values = merged(found.values, {_DFF_TEXTS[name]: [text]})
    found.bit_depth = 1
    if found.sample_rate and found.channels:
        found.bitrate = found.sample_rate * found.channels
        found.duration_s = data * 8 / found.bitrate if data else None
    return found


def _dff_chunks(source: TagSource) -> Iterator[Segment]:
    """Also those that lie in the chunks of properties and of edited master information; `ID3 ` first of all."""
    outer = list(large_chunks(source.file, source.start + 16))
    yield from (each for each in outer if each.name == b"ID3 ")
    for each in outer:
        if each.name == b"PROP":
            yield from _inside(source.file, each, 4)
        elif each.name == b"DIIN":
            yield from _inside(source.file, each, 0)
        elif each.name != b"ID3 ":
            yield each


def _inside(file: RangeFile, outer: Segment, skipped: int) -> Iterator[Segment]:
    return takewhile(lambda each: each.stop <= outer.stop, large_chunks(file, outer.start + skipped))


_DFF_TEXTS = {b"DITI": "title", b"DIAR": "artist"}


def caf(source: TagSource) -> TagValues:
    file, found, data = source.file, TagValues("caf", "pcm"), 0
    frames = seconds_a_byte = None
    for name, start, stop in large_chunks(file, source.start + 8):
        if name == b"desc":
            rate, codec, _, size, per_packet, channels, bits = struct.unpack(">d4sIIIII", file.read_at(start, 32))
            found.codec = _CAF_CODECS.get(codec, codec.decode("latin-1").strip())
            found.sample_rate, found.channels, found.bit_depth = round(rate), channels, bits
            seconds_a_byte = per_packet / size / rate if size and rate else None
        elif name == b"pakt":
            frames = int.from_bytes(file.read_at(start + 8, 8), "big")
        elif name == b"data":
            data = stop - start - 4
        elif name == b"info":
            found.values = named(
                _caf_info(file.read_at(start, min(stop - start, skeletons.MAX_TEXT))), "CAF information"
            )
    if found.sample_rate:
        found.duration_s = data * seconds_a_byte if seconds_a_byte else frames and frames / found.sample_rate
    found.bitrate = average(data, found.duration_s)
    return found


_CAF_CODECS = {b"lpcm": "pcm", b"aac ": "aac", b"alac": "alac", b".mp3": "mp3"}


def _caf_info(data: bytes) -> dict[str, list[str]]:
    texts = data[4:].split(b"\0")
    return {_text(key).lower(): [_text(value)] for key, value in zip(texts[::2], texts[1::2], strict=False)}


def dsf(source: TagSource) -> TagValues:
    pointer, channels, rate, bits, samples = struct.unpack("<20xQ24xIIIQ", source.file.read_at(0, 72))
    found = TagValues("dsf", "dsd", sample_rate=rate, channels=channels, bit_depth=bits, bitrate=rate * channels)
    found.duration_s = samples / rate if rate else None
    if pointer:
        found.values = id3_values(skeletons.id3(source.file, pointer))
    return found
