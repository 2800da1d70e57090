"""Small albums of real audio: what the demo plays.

The music is plucked notes, computed here and encoded by the real encoders; it needs no more than the standard library.
"""

from __future__ import annotations

import io
import math
import random
import shutil
import struct
import subprocess
import wave
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RATE = 44100
_NOTE_SECS = 0.3
_SCALE = (220.0, 261.63, 293.66, 329.63, 392.0, 440.0, 523.25, 587.33)


@dataclass(frozen=True)
class Album:
    """An album and the places where it lies. titles: of its tracks. artists: of the tracks, where they differ."""

    artist: str
    title: str
    year: int
    format: str
    titles: Sequence[str]
    on: Sequence[str]
    seconds: int = 24
    artists: Sequence[str] = ()


ALBUMS = (
    Album(
        "The Paper Lanterns", "Night Train", 2021, "flac", ("Departure", "Signals", "Terminus"),
        on=("nas", "cloud", "laptop"), seconds=300,
    ),
    Album("Ada Winter", "Low Tide", 2019, "flac", ("Harbour", "Driftwood", "Gulls"), on=("nas", "laptop")),
    Album("Ada Winter", "Salt Roads", 2022, "opus", ("Limestone", "Milestones", "Home"), on=("nas",)),
    Album("Kite & Anchor", "First Light", 2015, "mp3", ("Paper Wings", "Ballast"), on=("laptop",)),
    Album(
        "Various Artists", "Harbour Sessions", 2020, "opus", ("Slow Ferry", "Night Watch", "Lighthouse"), on=("cloud",),
        artists=("Ada Winter", "Kite & Anchor", "The Paper Lanterns"),
    ),
)  # fmt: skip


def make_album(album: Album, number: int, places: Mapping[str, Path]) -> None:
    """Encodes the album into the places it lies in: the same bytes everywhere, under other names."""
    folders = {
        "nas": places["nas"] / "Albums" / f"{album.artist} - {album.title}",
        "cloud": places["cloud"] / str(album.year) / album.title,
        "laptop": places["laptop"] / album.title.lower(),
    }
    first, *others = [folders[name] for name in album.on]
    for folder in (first, *others):
        folder.mkdir(parents=True)
    cover = first / "cover.png"
    cover.write_bytes(_cover(number))
    for other in others:
        shutil.copy2(cover, other)
    for track, title in enumerate(album.titles, 1):
        # Only the first track is long: it is the one that is played.
        seconds = album.seconds if track == 1 else min(album.seconds, 24)
        made = first / f"{track:02} {title}.{album.format}"
        _encode(album, track, _tune(seconds, 10 * number + track), cover, made)
        for other in others:
            shutil.copy2(made, other / f"track{track}.{album.format}")


def _encode(album: Album, track: int, wav: bytes, cover: Path, out: Path) -> None:
    artist = album.artists[track - 1] if album.artists else album.artist
    title, year = album.titles[track - 1], str(album.year)
    tags = {"artist": artist, "album": album.title, "title": title, "date": year, "tracknumber": str(track)}
    if album.artists:
        tags["albumartist"] = album.artist
    if album.format == "flac":
        command = ["flac", "-s", "-3", f"--picture={cover}", "-o", str(out), "-"]
        command[1:1] = [f"--tag={name}={value}" for name, value in tags.items()]
    elif album.format == "opus":
        command = ["opusenc", "--quiet", "--picture", str(cover), "-", str(out)]
        command[1:1] = [part for name, value in tags.items() for part in ("--comment", f"{name}={value}")]
    else:
        command = ["lame", "--quiet", "-b", "192", "--tt", title, "--ta", artist, "--tl", album.title]
        command += ["--ty", year, "--tn", str(track), "--ti", str(cover), "-", str(out)]
    subprocess.run(command, input=wav, check=True, capture_output=True)


def _tune(seconds: int, seed: int) -> bytes:
    """A WAV file of one note after the other: four chords, each broken up in its own order."""
    order = random.Random(seed)
    chords = [[order.choice(_SCALE) for _ in range(4)] for _ in range(4)]
    notes = [hz for chord in chords for hz in chord + order.sample(chord, 4)]
    count = round(seconds / _NOTE_SECS)
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setparams((2, 2, RATE, 0, "NONE", ""))
        wav.writeframes(b"".join(_note(notes[n % len(notes)]) for n in range(count)))
    return file.getvalue()


@cache
def _note(hz: float) -> bytes:
    """A plucked string, the channels a little out of tune with each other; with hiss, as recordings have it."""
    samples, hiss = array("h"), random.Random(hz)
    length = int(_NOTE_SECS * RATE)
    for n in range(length):
        loud = 7000 * min(1.0, n / 150) * (1 - n / length) ** 1.5
        for pitch in (hz, hz * 1.004):
            angle = 2 * math.pi * pitch * n / RATE
            sound = math.sin(angle) + math.sin(2 * angle) / 2 + math.sin(3 * angle) / 4
            samples.append(int(loud * sound) + hiss.randint(-40, 40))
    return samples.tobytes()


def _cover(number: int) -> bytes:
    """A PNG of 240 by 240 pixels: one colour that fades into another."""
    size = 240
    start, end = (random.Random(number + shift).randbytes(3) for shift in (100, 200))
    rows = b""
    for y in range(size):
        colour = bytes((a * (size - y) + b * y) // size for a, b in zip(start, end, strict=True))
        rows += b"\0" + colour * size
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
