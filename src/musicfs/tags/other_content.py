"""What a file that is no audio is instead: a failed download, or a file of another kind with a wrong name."""

from __future__ import annotations

_MARKS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"<!doctype html", b"<html", b"<head", b"<script"), "a web page, as of a download that failed"),
    ((b"<?xml", b"{", b"[{"), "a text, as of a download that failed"),
    ((b"#extm3u", b"#extinf", b"[playlist]"), "a playlist"),
    ((b"version https://git-lfs",), "a pointer of Git LFS, whose file was not fetched"),
    ((b"pk\x03\x04", b"rar!\x1a", b"7z\xbc\xaf", b"\x1f\x8b"), "an archive"),
    ((b"\xff\xd8\xff", b"\x89png", b"gif8"), "a picture"),
    ((b"%pdf",), "a document"),
    ((b"mz", b"\x7felf"), "a program"),
)


def other_content(head: bytes) -> str | None:
    """What a file with this beginning is, as the end of "the file is ..."; None: that is not known.

    Args:
        head: The first bytes behind tags, of a file that is no audio.
    """
    if head and not head.strip(b"\0"):
        return "nothing but zeros at its start, as after a copy that broke off"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for marks, kind in _MARKS if start.startswith(marks)), None)
