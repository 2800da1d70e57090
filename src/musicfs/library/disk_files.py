"""Opens files on a disk of this machine for the parsers, which can open nothing themselves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from musicfs.model import DiskFolder
from musicfs.system.linux import open_within
from musicfs.tags.fingerprint import sample_ranges
from musicfs.tags.parser import FileOnDisk


def open_files(folder: DiskFolder, files: Sequence[FileOnDisk]) -> list[int | None]:
    """Opens files below the folder, on its own mount, and makes the kernel start to read their samples. Blocks.

    Returns:
        A descriptor for each file; None: it can't be opened.
    """
    try:
        root = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return [None] * len(files)
    try:
        return [_open(root, file, folder.through_links) for file in files]
    finally:
        os.close(root)


def _open(root: int, file: FileOnDisk, through_links: bool) -> int | None:
    try:
        fd = open_within(root, file.path, through_links=through_links)
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # of a pipe, say
        for offset, size in sample_ranges(file.size):
            os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)
    return fd
