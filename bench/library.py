"""Makes big libraries of small but real FLAC files, quickly: one encoding, with new tags for each file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

_TRACKS = 10
_ALBUMS = 10


def _encoded(folder: Path, seconds: float) -> bytes:
    path = folder / ".encoding.flac"
    noise = np.random.default_rng(0).normal(0, 0.1, int(44100 * seconds))
    soundfile.write(path, noise, 44100)
    data = path.read_bytes()
    path.unlink()
    return data


def _split(flac: bytes) -> tuple[bytes, bytes]:
    """The STREAMINFO block's body, and the audio frames. FLAC format, section METADATA_BLOCK_HEADER (RFC 9639, 8.1)."""
    position, info, last = 4, b"", False
    while not last:
        header = struct.unpack(">I", flac[position : position + 4])[0]
        last, kind, size = bool(header >> 31), (header >> 24) & 0x7F, header & 0xFFFFFF
        if kind == 0:
            info = flac[position + 4 : position + 4 + size]
        position += 4 + size
    return info, flac[position:]


def _comments(**tags: str | int) -> bytes:
    fields = [f"{name}={value}".encode() for name, value in tags.items()]
    body = struct.pack("<I", 5) + b"bench" + struct.pack("<I", len(fields))
    return body + b"".join(struct.pack("<I", len(field)) + field for field in fields)


@dataclass(frozen=True)
class Track:
    """One track of the made libraries, and where it is in the source folders and in MusicFS's tree."""

    number: int

    @property
    def artist(self) -> int:
        return self.number // (_TRACKS * _ALBUMS)

    @property
    def album(self) -> int:
        return self.number // _TRACKS % _ALBUMS

    @property
    def track(self) -> int:
        return self.number % _TRACKS + 1

    @property
    def source(self) -> str:
        return f"Artist {self.artist:04}/Album {self.album}/{self.track:02} Title {self.track}.flac"

    @property
    def shown(self) -> str:
        year = 1970 + self.album
        return f"Artist {self.artist:04}/Album {self.album} ({year}) [FLAC]/{self.track:02} - Title {self.track}.flac"


def make_library(root: Path, numbers: range, seconds: float = 0.02) -> None:
    """These tracks, ten to an album, ten albums to an artist, in folders as people have them. Safe to repeat."""
    done = root / ".complete"
    if done.exists() and done.read_text() == str(numbers):
        return
    root.mkdir(parents=True, exist_ok=True)
    info, frames = _split(_encoded(root, seconds))
    first = b"fLaC" + struct.pack(">I", len(info)) + info
    for track in map(Track, numbers):
        comments = _comments(
            ARTIST=f"Artist {track.artist:04}", ALBUM=f"Album {track.album}", TITLE=f"Title {track.track}",
            TRACKNUMBER=track.track, DATE=1970 + track.album,
        )  # fmt: skip
        block = struct.pack(">I", 0x84000000 | len(comments)) + comments
        path = root / track.source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(first + block + frames)
    done.write_text(str(numbers))


def make_big_file(path: Path, size: int) -> None:
    """One WAV file of `size` bytes, of noise. Safe to repeat."""
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    body = size - 44
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 2, 44100, 176400, 4, 16, b"data", body
    )
    piece = np.random.default_rng(0).bytes(1 << 20)
    with path.open("wb") as file:
        file.write(header)
        while body > 0:
            body -= file.write(piece[: min(body, len(piece))])
