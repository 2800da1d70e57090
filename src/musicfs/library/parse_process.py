"""The worker's end of one parser process: sends it files, and receives what they are, in the same order.

The process may die, hang or lie. Then it is killed, and the file that it was at is the one at fault; the files behind
that one go back to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from musicfs.library.disk_files import open_files
from musicfs.model import DiskFolder
from musicfs.system import processes
from musicfs.system.threads import WorkersUnavailable, WorkerThreads
from musicfs.tags import parse_messages
from musicfs.tags.parse_messages import HEADER, MAX_ANSWER, MAX_FILES, PROGRESS, FileToParse, InvalidAnswer
from musicfs.tags.parser import HUNG, PATIENCE_SECS, TOO_SLOW, Examined, FileOnDisk, MissingBytes

log = logging.getLogger(__name__)

_WINDOW = 2 * MAX_FILES
_BYTES_WEIGHT = 16
"""A file whose bytes are sent fills so much of the window: a parser must not hoard them."""
_STARTING_SECS = 60.0
_ON_DISK_SECS = 30.0
"""A parser may make no progress for so long with a file on a disk, which may be slow."""
_REAP_SECS = 5.0
_AT_ONCE = 64 * 1024
_MAX_DEATHS = 2
"""A file is tried again after one death: the system may have killed the parser for want of memory."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that its parser died of, or did not finish, and a sentence about that."""

    problem: str


Answer = Examined | MissingBytes | Fault | None
"""What a parser answers; None, of a file on a disk alone: it must be read through its origin."""

_HUNG = Fault(HUNG)
_LIED = Fault("the process that read its tags gave an invalid answer")
_DIED = Fault("the process that read its tags died")
_THROUGH_ORIGIN = Fault("")


@dataclass(slots=True, eq=False)
class ParseJob:
    """One pass over a file. folder: of a file on a disk. finish: takes the answer. deaths: of parsers at this file."""

    file: FileOnDisk | FileToParse
    folder: DiskFolder | None
    finish: Callable[[Answer], None]
    deaths: int = 0

    @property
    def weight(self) -> int:
        return _BYTES_WEIGHT if self.folder is None else 1


class JobQueue(Protocol):
    """Who gives a parser its work."""

    def take(self, weight: int) -> list[ParseJob]:
        """Takes jobs of this weight out of the queue; at least one, if there are any."""
        ...

    def put_back(self, jobs: Sequence[ParseJob]) -> None:
        """Puts jobs back to the front of the queue."""
        ...

    def ended(self, process: ParserProcess) -> None:
        """The process has ended, not by `close`; its jobs have been put back."""
        ...


def command(end: int, progress: int) -> list[str]:
    """The command that runs a parser. end, progress: the descriptors of its socket and of the shared memory."""
    return processes.python_command("musicfs.tags.parser_process", str(end), str(os.getpid()), str(progress))


class ParserProcess:
    """One parser process. All methods belong to the event loop's thread.

    Args:
        owner: Has the jobs.
        threads: Open files, and wait for the process's end.
        make_command: Makes the process's command, as `command` does.
    """

    def __init__(self, owner: JobQueue, threads: WorkerThreads, make_command: Callable[[int, int], list[str]]) -> None:
        self._owner = owner
        self._threads = threads
        self._make_command = make_command
        self._jobs: deque[ParseJob] = deque()
        """What was sent and has no answer yet, in order."""
        self._weight = 0
        self._received = bytearray()
        self._progress_at = 0.0
        self._answered = 0
        self._feeding: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.is_ready = False

    def start(self) -> None:
        """Starts the process. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._end, theirs = socket.socketpair()
        self._end.setblocking(False)
        self._progress = os.memfd_create("progress of a parser")
        try:
            with theirs:
                self._process = self._run(theirs.fileno())
        except OSError:
            self._close_descriptors()
            raise
        self._loop.add_reader(self._end, self._readable)
        self._progress_at = self._loop.time()
        self._timer = self._loop.call_later(_STARTING_SECS, self._check_progress)

    def _run(self, end: int) -> subprocess.Popen[bytes]:
        os.ftruncate(self._progress, mmap.PAGESIZE)
        return subprocess.Popen(
            self._make_command(end, self._progress),
            pass_fds=[end, self._progress],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=processes.WORKING_FOLDER,
            env=processes.bare_environment(),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wake(self) -> None:
        """Takes jobs as far as there is room for them."""
        if self.is_ready and self._ending is None and self._feeding is None and self._weight <= _WINDOW // 2:
            jobs = self._owner.take(_WINDOW - self._weight)
            if jobs:
                self._feeding = self._loop.create_task(self._feed(jobs), name="sending files to a parser")

    def close(self) -> None:
        """Kills the process. Its jobs never finish. Blocks for the moment that this takes."""
        if self._ending is None:
            self._stop()
        else:
            self._ending.cancel()
        if self._feeding is not None:
            self._feeding.cancel()
        self._close_descriptors()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECS)

    def _close_descriptors(self) -> None:
        if self._progress >= 0:
            os.close(self._progress)
            self._progress = -1
        self._end.close()

    # Sending

    async def _feed(self, jobs: list[ParseJob]) -> None:
        try:
            while jobs:
                await self._send(jobs)
                room = _WINDOW - self._weight
                jobs = self._owner.take(room) if room >= _WINDOW // 2 and self._ending is None else []
        except OSError as error:  # the process has ended, which `_readable` finds out
            log.debug("a parser takes nothing more: %s", error)
        finally:
            self._feeding = None

    async def _send(self, jobs: list[ParseJob]) -> None:
        opened = dict[ParseJob, int]()
        sent = False
        try:
            on_disk = [job for job in jobs if job.folder is not None]
            if on_disk:
                with contextlib.suppress(WorkersUnavailable, TimeoutError):  # a disk hangs: none is opened
                    async with asyncio.timeout(_ON_DISK_SECS):
                        opened = await self._threads.run(_open_all, on_disk, undo=_close_all)
            gone = [job for job in on_disk if job not in opened]
            jobs = [job for job in jobs if job.folder is None or job in opened]
            sent = True
            for job in gone:
                job.finish(None)
            if jobs:
                await self._transmit(jobs, [opened[job] for job in jobs if job in opened])
        finally:
            _close_all(opened)
            if not sent:
                self._owner.put_back(jobs)

    async def _transmit(self, jobs: Sequence[ParseJob], fds: Sequence[int]) -> None:
        if not self._jobs:
            self._progress_at = self._loop.time()
        self._jobs += jobs
        self._weight += sum(job.weight for job in jobs)
        self._check_progress()
        first, *others = parse_messages.request([job.file for job in jobs])
        sent = 0
        while not sent:
            try:
                sent = socket.send_fds(self._end, [first], fds)
            except BlockingIOError:
                await self._has_room()
        for piece in (first[sent:], *others):
            await self._loop.sock_sendall(self._end, piece)

    async def _has_room(self) -> None:
        room = asyncio.Event()
        self._loop.add_writer(self._end, room.set)
        try:
            await room.wait()
        finally:
            self._loop.remove_writer(self._end)

    # Receiving

    def _readable(self) -> None:
        try:
            data = self._end.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._fail(None)
            return
        self._received += data
        try:
            while self._ending is None and (text := self._message()) is not None:
                self._take_answer(text)
        except InvalidAnswer as error:
            log.warning("a process that reads tags gave an invalid answer (%s); it is killed", error)
            self._fail(_LIED)
        self.wake()

    def _message(self) -> bytes | None:
        """The next answer that is here as a whole; None: there is none."""
        if len(self._received) < HEADER.size:
            return None
        length, more = HEADER.unpack_from(self._received)
        if length > MAX_ANSWER or more:
            raise InvalidAnswer("it is too long")
        end = HEADER.size + length
        if len(self._received) < end:
            return None
        text = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        return text

    def _take_answer(self, text: bytes) -> None:
        self._progress_at = self._loop.time()
        if not self.is_ready:
            if text != parse_messages.READY:
                raise InvalidAnswer("it is not ready")
            self.is_ready = True
            return
        answer = parse_messages.read_answer(text)
        if not self._jobs:
            raise InvalidAnswer("there was no file")
        if not _fits(answer, self._jobs[0]):
            raise InvalidAnswer("it is of another file")
        job = self._jobs.popleft()
        self._weight -= job.weight
        self._answered += 1
        job.finish(answer)

    # The end

    def _check_progress(self) -> None:
        """Kills the process if it makes no progress, else looks again when it may be due."""
        self._timer.cancel()
        due = self._progress_at + self._patience()
        if self._loop.time() >= due and self._ending is None:
            self._readable()  # this process, not the parser, may have been slow
            due = self._progress_at + self._patience()
        if self._ending is not None or (self.is_ready and not self._jobs):
            return
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._check_progress)
            return
        log.warning("a process that reads tags makes no progress; it is killed")
        # The disk may be slow rather than the parser: the origin's read says so.
        self._fail(_HUNG if self._jobs and self._jobs[self._at()].folder is None else _THROUGH_ORIGIN)

    def _patience(self) -> float:
        if not self.is_ready:
            return _STARTING_SECS
        is_on_disk = self._jobs and self._jobs[self._at()].folder is not None
        return _ON_DISK_SECS if is_on_disk else PATIENCE_SECS

    def _stop(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._end)
        self._process.kill()

    def _fail(self, verdict: Fault | None) -> None:
        """Ends the process. verdict: of the file that it was at; None: how the process ended decides."""
        if self._ending is None:
            self._stop()
            self._ending = self._loop.create_task(self._bury(verdict), name="ending a parser")

    async def _bury(self, verdict: Fault | None) -> None:
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait({self._feeding})
        code = await self._threads.run(_reap, self._process)
        if self._jobs:
            self._judge(verdict, code)
        self._close_descriptors()
        self._owner.put_back(self._jobs)
        self._owner.ended(self)

    def _judge(self, verdict: Fault | None, code: int | None) -> None:
        """Finishes the job that the process was at, unless that is to be tried again."""
        if code == parse_messages.RETIRED and self._answered:
            return
        at = self._at()
        if verdict is None and code == -signal.SIGPROF:
            verdict = Fault(TOO_SLOW)
        if verdict is None:
            log.warning("a process that reads tags died (exit code %s)", code)
            self._jobs[at].deaths += 1
            if self._jobs[at].deaths < _MAX_DEATHS:
                return
            verdict = _DIED
        job = self._jobs[at]
        del self._jobs[at]
        job.finish(None if verdict is _THROUGH_ORIGIN else verdict)

    def _at(self) -> int:
        """Which of the jobs the process is at. Those before it are done, but their answers are not here."""
        if not self._jobs:
            return 0
        done = PROGRESS.unpack(os.pread(self._progress, PROGRESS.size, 0).ljust(PROGRESS.size, b"\0"))[0]
        return int(min(max(done - self._answered, 0), len(self._jobs) - 1))


def _fits(answer: Examined | MissingBytes | None, job: ParseJob) -> bool:
    """Whether a parser of ours may give this answer to the job."""
    if isinstance(answer, Examined):
        return job.file.role == "audio" or answer.tags is None
    if isinstance(answer, MissingBytes):
        return job.folder is None and answer.offset + answer.size <= job.file.size
    return job.folder is not None


def _open_all(jobs: Sequence[ParseJob]) -> dict[ParseJob, int]:
    """Opens the jobs' files, except those that can't be opened. Blocks."""
    opened = dict[ParseJob, int]()
    for folder, grouped in groupby(jobs, lambda job: job.folder):
        some = list(grouped)
        files = [job.file for job in some if isinstance(job.file, FileOnDisk)]
        if folder is not None:
            opened |= {job: fd for job, fd in zip(some, open_files(folder, files), strict=True) if fd is not None}
    return opened


def _close_all(opened: Mapping[ParseJob, int]) -> None:
    for fd in opened.values():
        os.close(fd)


def _reap(process: subprocess.Popen[bytes]) -> int | None:
    """Waits for the end of a process that was killed. None: it hangs where not even that ends it. Blocks."""
    try:
        return process.wait(_REAP_SECS)
    except subprocess.TimeoutExpired:
        return None
