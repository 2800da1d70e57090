"""Makes real audio files, by real encoders, and broken ones.

Each (format, seconds, seed) is encoded once into a cache folder; after that a file is a copy that gets its tags, so
that a library of thousands takes seconds. Equal arguments give equal audio.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
from mutagen.apev2 import BINARY, APEv2, APEValue
from mutagen.flac import Picture
from mutagen.id3 import APIC, ID3, TALB, TCMP, TCOM, TCON, TDOR, TDRC, TIT2, TPE1, TPE2, TPOS, TRCK, TSST, TXXX, UFID
from mutagen.mp4 import MP4, MP4Cover, MP4FreeForm

RATE = 44100
FORMATS = ("flac", "mp3", "ogg", "opus", "oga", "m4a", "aac", "wav", "aiff", "wv", "tta", "wma", "ape", "mpc", "dsf")
"""What `make_audio` can make. It also makes m4b and mp4, which are m4a under another name."""

Command = Callable[[Path, Path], list[str]]


def _ffmpeg(*options: str) -> Command:
    common = ("-flags:a", "+bitexact", "-fflags", "+bitexact", "-map_metadata", "-1")
    return lambda wav, out: ["ffmpeg", "-v", "error", "-y", "-i", str(wav), *options, *common, str(out)]


_ENCODERS: Mapping[str, Command] = {
    "flac": lambda wav, out: ["flac", "-s", "-5", "--no-padding", "-o", str(out), str(wav)],
    "mp3": lambda wav, out: ["lame", "--quiet", "-b", "128", str(wav), str(out)],
    "ogg": lambda wav, out: ["oggenc", "-Q", "--serial", "7", "-o", str(out), str(wav)],
    "opus": lambda wav, out: ["opusenc", "--quiet", "--serial", "7", str(wav), str(out)],
    "wv": lambda wav, out: ["wavpack", "-q", "-y", str(wav), "-o", str(out)],
    "oga": _ffmpeg("-c:a", "flac", "-f", "oga"),
    "aac": _ffmpeg("-c:a", "aac", "-f", "adts"),
    "m4a": _ffmpeg("-c:a", "aac", "-f", "ipod"),
    "alac": _ffmpeg("-c:a", "alac", "-f", "ipod"),
    "aiff": _ffmpeg("-c:a", "pcm_s16be", "-f", "aiff"),
    "tta": _ffmpeg("-c:a", "tta", "-f", "tta"),
    "wma": _ffmpeg("-c:a", "wmav2", "-f", "asf"),
}


def make_audio(
    path: Path,
    *,
    seconds: float = 1.0,
    seed: int = 0,
    tags: Mapping[str, Any] | None = None,
    cover: bytes | None = None,
    codec: str | None = None,
) -> Path:
    """Makes the audio file `path`, in the format that its extension names, and returns the path.

    Other seeds sound different. tags: the fields of `musicfs.tags.tags.Tags`; a list writes several values.
    cover: the bytes of a JPEG, in all formats but wma. codec: "alac" in an m4a.

    There is no encoder for `ape` and `mpc` here: their headers are real and describe a stream of `seconds`, but
    the stream itself is noise. `dsf` is real, and its one-bit stream is noise.
    """
    extension = path.suffix[1:].lower()
    kind = {"m4b": "m4a", "mp4": "m4a", "aif": "aiff"}.get(extension, extension)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_encoded(codec or kind, seconds, seed), path)
    path.chmod(0o644)
    if tags or cover:
        _write_tags(path, kind, dict(tags or {}), cover)
    return path


def make_album(
    root: Path,
    artist: str,
    album: str,
    n: int,
    *,
    ext: str = "flac",
    year: int | None = 1999,
    disc: int | None = None,
    seconds: float = 1.0,
    seed: int = 0,
    folder: str | None = None,
    **tags: Any,
) -> list[Path]:
    """An album of `n` tracks in `root/artist/album` (or `root/folder`), named `01 - Title 1.flac` and so on."""
    where = root / (folder or f"{artist}/{album}")
    paths = []
    for number in range(1, n + 1):
        title = f"Title {number}"
        own = {"title": title, "artist": artist, "album": album, "track": number, "tracktotal": n, "disc": disc}
        if year:
            own["date"] = str(year)
        path = where / f"{number:02} - {title}.{ext}"
        paths.append(make_audio(path, seconds=seconds, seed=seed + number % 4, tags=own | tags))
    return paths


def make_library(root: Path, spec: Mapping[str, Mapping[str, int]], *, ext: str = "flac") -> list[Path]:
    """Albums by artist: {"Artist": {"Album": number of tracks}}. Returns the paths of all tracks."""
    albums = [(artist, album, n) for artist, records in spec.items() for album, n in records.items()]
    return [
        path
        for number, (artist, album, n) in enumerate(albums)
        for path in make_album(root, artist, album, n, ext=ext, seed=number % 4)
    ]


def make_empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def make_garbage(path: Path, size: int = 100_000, seed: int = 0) -> Path:
    """Random bytes under a musical name."""
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


def make_truncated(path: Path, keep: float = 0.5, **options: Any) -> Path:
    """A real file of which only the first part is there, as after a download that broke off."""
    data = make_audio(path, **options).read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def make_mislabelled(path: Path, real: str, **options: Any) -> Path:
    """A file in the format `real` under the name of another."""
    made = make_audio(path.with_suffix(f".{real}"), **options)
    return made.rename(path)


def picture(size: int) -> bytes:
    """`size` bytes that begin as a JPEG does and do not compress."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + np.random.default_rng(size).bytes(size - 11)


def _encoded(kind: str, seconds: float, seed: int) -> Path:
    cache = Path(tempfile.gettempdir()) / f"musicfs-test-audio-{os.getuid()}-v1"
    cache.mkdir(exist_ok=True)
    made = cache / f"{kind}-{seconds}-{seed}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            out = Path(scratch) / f"out.{kind}"
            _encode(kind, seconds, seed, out)
            out.replace(made)  # whole or not at all, also for test processes side by side
    return made


def _encode(kind: str, seconds: float, seed: int, out: Path) -> None:
    written_by_hand = {"ape": _ape_file, "mpc": _musepack_file, "dsf": _dsf_file}
    if kind in written_by_hand:
        out.write_bytes(written_by_hand[kind](seconds, seed))
        return
    wav = out.with_name("in.wav")
    with wave.open(str(wav), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(_samples(seconds, seed))
    if kind == "wav":
        wav.rename(out)
    else:
        subprocess.run(_ENCODERS[kind](wav, out), check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _samples(seconds: float, seed: int) -> bytes:
    """Two channels of a chord under a little noise, so that codecs find something to do."""
    noise = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitches = 220 * 2 ** (noise.integers(0, 24, (2, 3)) / 12)
    chord = np.sin(2 * np.pi * pitches[:, :, None] * time).sum(axis=1) * 6000
    both = chord + noise.normal(0, 300, chord.shape)
    return bytes(both.T.astype("<i2").tobytes())


def _noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def _ape_file(seconds: float, seed: int) -> bytes:
    audio = _noise(int(seconds * 80_000), seed)
    blocks = 73728 * 4
    whole, rest = divmod(max(int(seconds * RATE), 1) - 1, blocks)
    descriptor = struct.pack("<4sHHIIIIIII16s", b"MAC ", 3990, 0, 52, 24, 0, 0, len(audio), 0, 0, b"")
    return descriptor + struct.pack("<HHIIIHHI", 2000, 0, blocks, rest + 1, whole + 1, 16, 2, RATE) + audio


def _musepack_file(seconds: float, seed: int) -> bytes:
    frames = round((seconds * RATE + 576) / 1152)
    return struct.pack("<3sBIIHhHh12x", b"MP+", 7, frames, 0, 0, 0, 0, 0) + _noise(int(seconds * 20_000), seed)


def _dsf_file(seconds: float, seed: int) -> bytes:
    rate, block = 2_822_400, 4096
    samples = int(seconds * rate)
    blocks = -(-samples // (8 * block))
    data = _noise(blocks * block * 2, seed)
    total = 28 + 52 + 12 + len(data)
    fmt = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, rate, 1, samples, block, 0)
    return struct.pack("<4sQQQ", b"DSD ", 28, total, 0) + fmt + struct.pack("<4sQ", b"data", 12 + len(data)) + data


def _write_tags(path: Path, kind: str, tags: dict[str, Any], cover: bytes | None) -> None:
    values = {name: list(map(str, _many(value))) for name, value in tags.items() if value is not None}
    if kind in ("flac", "ogg", "opus", "oga"):
        _write_vorbis(path, kind, values, cover)
    elif kind == "m4a":
        _write_mp4(path, values, cover)
    elif kind in ("wv", "ape", "mpc"):
        _write_ape(path, values, cover)
    elif kind == "wma":
        _write_keys(mutagen.File(path), values, _ASF_KEYS)
    else:
        _write_id3(path, kind, values, cover)


def _new(cls: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Calls a class of mutagen, which has no types."""
    return cls(*args, **options)


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _write_keys(file: Any, values: Mapping[str, list[str]], keys: Mapping[str, str]) -> None:
    for name, texts in values.items():
        file[keys.get(name, name)] = texts
    file.save()


def _write_vorbis(path: Path, kind: str, values: Mapping[str, list[str]], cover: bytes | None) -> None:
    file: Any = mutagen.File(path)
    if cover:
        image = _new(Picture)
        image.type, image.mime, image.data = 3, "image/jpeg", cover
        if kind == "flac":
            file.add_picture(image)
        else:
            values = {**values, "metadata_block_picture": [base64.b64encode(image.write()).decode()]}
    _write_keys(file, values, {"track": "tracknumber", "disc": "discnumber", "disctitle": "discsubtitle"})


def _write_ape(path: Path, values: Mapping[str, list[str]], cover: bytes | None) -> None:
    tag = _new(APEv2)
    for number, total in (("track", "tracktotal"), ("disc", "disctotal")):
        if number in values and total in values:
            values = {**values, number: [f"{values[number][0]}/{values[total][0]}"]}
    if cover:
        tag["Cover Art (Front)"] = _new(APEValue, b"cover.jpg\0" + cover, BINARY)
    for name, texts in values.items():
        if not name.endswith("total"):
            tag[_APE_KEYS.get(name, name)] = texts
    tag.save(path)


def _write_mp4(path: Path, values: Mapping[str, list[str]], cover: bytes | None) -> None:
    file = _new(MP4, path)
    if file.tags is None:
        file.add_tags()
    for number, total, key in (("track", "tracktotal", "trkn"), ("disc", "disctotal", "disk")):
        if number in values or total in values:
            file[key] = [(int(values.get(number, ["0"])[0]), int(values.get(total, ["0"])[0]))]
    for name, texts in values.items():
        if name == "compilation":
            file["cpil"] = texts[0] in ("1", "True")
        elif name in _MP4_KEYS:
            file[_MP4_KEYS[name]] = texts
        elif name in _MP4_FREE:
            file[f"----:com.apple.iTunes:{_MP4_FREE[name]}"] = [_new(MP4FreeForm, text.encode()) for text in texts]
    if cover:
        file["covr"] = [_new(MP4Cover, cover, MP4Cover.FORMAT_JPEG)]
    file.save()


def _write_id3(path: Path, kind: str, values: Mapping[str, list[str]], cover: bytes | None) -> None:
    inside = kind in ("wav", "aiff", "dsf", "tta")
    file: Any = mutagen.File(path) if inside else None
    if inside and file.tags is None:
        file.add_tags()
    tag: Any = file.tags if inside else _new(ID3)
    for number, total, frame in (("track", "tracktotal", TRCK), ("disc", "disctotal", TPOS)):
        if number in values:
            tag.add(frame(encoding=3, text="/".join(values[number] + values.get(total, []))))
    for name, texts in values.items():
        if name in _ID3_FRAMES:
            tag.add(_ID3_FRAMES[name](encoding=3, text=texts))
    if "musicbrainz_albumid" in values:
        tag.add(_new(TXXX, encoding=3, desc="MusicBrainz Album Id", text=values["musicbrainz_albumid"]))
    if "musicbrainz_trackid" in values:
        tag.add(_new(UFID, owner="http://musicbrainz.org", data=values["musicbrainz_trackid"][0].encode()))
    if cover:
        tag.add(_new(APIC, encoding=3, mime="image/jpeg", type=3, desc="front", data=cover))
    if inside:
        file.save()
    else:
        tag.save(path)


_ASF_KEYS = {
    "title": "Title",
    "artist": "Author",
    "albumartist": "WM/AlbumArtist",
    "album": "WM/AlbumTitle",
    "date": "WM/Year",
    "originaldate": "WM/OriginalReleaseYear",
    "track": "WM/TrackNumber",
    "tracktotal": "TrackTotal",
    "disc": "WM/PartOfSet",
    "disctotal": "DiscTotal",
    "disctitle": "WM/SetSubTitle",
    "genre": "WM/Genre",
    "composer": "WM/Composer",
    "compilation": "WM/IsCompilation",
    "musicbrainz_albumid": "MusicBrainz/Album Id",
    "musicbrainz_trackid": "MusicBrainz/Track Id",
}
_APE_KEYS = {"albumartist": "Album Artist", "date": "Year", "disctitle": "DiscSubtitle"}
_MP4_KEYS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "albumartist": "aART",
    "album": "\xa9alb",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
}
_MP4_FREE = {
    "musicbrainz_albumid": "MusicBrainz Album Id",
    "musicbrainz_trackid": "MusicBrainz Track Id",
    "disctitle": "DISCSUBTITLE",
    "originaldate": "originaldate",
}
_ID3_FRAMES: Mapping[str, Any] = {
    "title": TIT2,
    "artist": TPE1,
    "albumartist": TPE2,
    "album": TALB,
    "date": TDRC,
    "originaldate": TDOR,
    "disctitle": TSST,
    "genre": TCON,
    "composer": TCOM,
    "compilation": TCMP,
}
