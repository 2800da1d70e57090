"""The parser process: parses files for the library worker, in a cage that it enters before it reads the first of them.

It can open no file, since the worker sends bytes and open descriptors; docs/decisions/parse-processes.md has the rest.
Its arguments are the descriptor of the socket to the worker, the worker's process id, and the descriptor of the memory
that both share.
"""

from __future__ import annotations

import codecs
import gc
import mmap
import os
import sys
import time
from collections.abc import Iterator, Sequence
from socket import recv_fds, socket

from musicfs.system import confinement, hardening
from musicfs.system.linux import end_with_parent
from musicfs.tags import formats, parse_messages
from musicfs.tags.parse_messages import HEADER, MAX_FILES, PROGRESS, RETIRED, FileToParse
from musicfs.tags.parser import CPU_SECS, MEMORY, Examined, FileOnDisk, MissingBytes, examine, examine_open

_MOST_MEMORY = 2 * MEMORY
_MAX_GROWN = MEMORY // 2
_DESCRIPTORS = MAX_FILES + 8
_UNSENT_SECS = 0.02
_CODECS = "ascii", "cp1252", "latin-1", "utf-8", "utf-16", "utf-16-be", "utf-16-le"


class _Requests:
    """What the worker sends."""

    def __init__(self, end: socket) -> None:
        self._end = end

    def __iter__(self) -> Iterator[tuple[list[FileOnDisk | FileToParse], list[int]]]:
        """Each request, with its descriptors. Ends when the worker closes the socket, or is gone."""
        while True:
            head, fds, _, _ = recv_fds(self._end, HEADER.size, MAX_FILES)
            if not head:
                return
            head += self._exactly(HEADER.size - len(head))
            text, raw = (self._exactly(size) for size in HEADER.unpack(head))
            yield parse_messages.read_request(text, raw), fds

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            received = self._end.recv_into(view)
            if not received:
                sys.exit(0)
            view = view[received:]
        return bytes(data)


class _Answers:
    """What the worker gets. Several go together: each by itself would cost as much as the parsing of a small file.

    So that the worker knows which file a parser has died of, the number of files that are done is in memory that both
    have.
    """

    def __init__(self, end: socket, progress: int) -> None:
        self._end = end
        self._progress = mmap.mmap(progress, mmap.PAGESIZE)
        self._unsent: list[bytes] = []
        self._since = 0.0
        self._done = 0

    def add(self, answer: bytes) -> None:
        self._done += 1
        self._progress[: PROGRESS.size] = PROGRESS.pack(self._done)
        now = time.monotonic()
        if not self._unsent:
            self._since = now
        self._unsent.append(answer)
        if now > self._since + _UNSENT_SECS:
            self.flush()

    def flush(self) -> None:
        self._end.sendall(b"".join(self._unsent))
        self._unsent.clear()


def main(argv: Sequence[str] = sys.argv) -> None:
    end, owner, progress = map(int, argv[1:])
    hardening.restrict_umask()
    hardening.hide_memory()
    end_with_parent()
    if os.getppid() != owner:
        return
    os.nice(5)
    _serve(socket(fileno=end), progress)


def _serve(end: socket, progress: int) -> None:
    answers = _Answers(end, progress)
    memory = _enter_cage()
    end.sendall(parse_messages.frame(parse_messages.READY))
    for files, fds in _Requests(end):
        opened = iter(fds)
        for file in files:
            found = _parse(file, next(opened) if isinstance(file, FileOnDisk) else -1, memory)
            answers.add(parse_messages.answer(found))
        answers.flush()
        if memory.grown > _MAX_GROWN:
            gc.collect()
            if memory.grown > _MAX_GROWN:
                sys.exit(RETIRED)


def load_codecs() -> None:
    """Loads the codecs that tags are written in."""
    for codec in _CODECS:
        codecs.lookup(codec)


def _enter_cage() -> confinement.MemoryLimit:
    """Gives up all that parsing does not need. What is imported later can't be: it would have to open files."""
    load_codecs()
    assert formats  # the parsers are imported now
    gc.freeze()
    memory = confinement.MemoryLimit.begin(_MOST_MEMORY)
    os.dup2(1, 2)  # which leads nowhere: only what happens before this line is worth a log
    confinement.forbid_privileges()
    confinement.forbid_resources(_DESCRIPTORS)
    confinement.forbid_files_and_tcp()
    return memory


def _parse(file: FileOnDisk | FileToParse, fd: int, memory: confinement.MemoryLimit) -> Examined | MissingBytes | None:
    memory.allow(MEMORY)
    confinement.limit_cpu(CPU_SECS if isinstance(file, FileOnDisk) else file.cpu_secs)
    try:
        if isinstance(file, FileOnDisk):
            return examine_open(fd, file)
        started = time.process_time()
        found = examine(file.name, file.role, file.size, file.ranges)
        if isinstance(found, MissingBytes):
            return MissingBytes(found.offset, found.size, time.process_time() - started)
        return found
    finally:
        confinement.limit_cpu(0)
        if fd >= 0:
            os.close(fd)


if __name__ == "__main__":
    main()
