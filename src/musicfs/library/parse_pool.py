"""The parser processes: how many there are, which files they get, and what replaces one that ends.

A file that kills its parser, or keeps it, costs that file alone: see parse_process.py. Every end of a process finishes
or charges the file that it was at, so the cost of any number of such files is linear in their number.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence

from musicfs.errors import MusicFSError
from musicfs.library.parse_process import Answer, Fault, ParseJob, ParserProcess, command
from musicfs.model import DiskFolder
from musicfs.system.threads import WorkerThreads
from musicfs.tags.parse_messages import MAX_FILES, FileToParse
from musicfs.tags.parser import Examined, FileOnDisk, MissingBytes

log = logging.getLogger(__name__)

_WORTH_A_PROCESS = 125
"""So much waiting weight takes about as long as the start of another process. A quarter of the scanner's batch, since
there are at most four processes."""
_MAX_PROCESSES = 4
_MAX_FAILED_STARTS = 3
_OPENING_THREADS = 4


class Parsers:
    """A pool of parser processes, which start when there is work, or by `warm`, and live until `close`.

    All methods belong to one event loop's thread.

    Args:
        size: At most so many processes; None: as many as there are processors.
        make_command: Makes the command of a parser, as `command` does.
    """

    def __init__(self, size: int | None = None, make_command: Callable[[int, int], list[str]] = command) -> None:
        self._size = size or max(1, min(_MAX_PROCESSES, os.cpu_count() or 1))
        self._make_command = make_command
        self._threads = WorkerThreads("open files for parsers", _OPENING_THREADS)
        self._processes: list[ParserProcess] = []
        self._queue: deque[ParseJob] = deque()
        self._waiting: set[asyncio.Future[object]] = set()
        self._weight = 0
        self._failed_starts = 0

    def warm(self) -> None:
        """Starts one process, if there is none, so that the next file does not wait for it."""
        if not self._processes:
            self._start()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [process.pid for process in self._processes]

    async def examine_files(
        self,
        folder: DiskFolder,
        files: Sequence[FileOnDisk],
        take: Callable[[FileOnDisk, Examined | Fault | None], None],
    ) -> None:
        """Examines files below a folder of this machine. Opens them as `open_within` does.

        Args:
            folder: Where they are.
            files: The files.
            take: Takes what each of them is, in any order. None: it must be read through its origin.

        Raises:
            MusicFSError: No parser process starts.
        """
        left = len(files)
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def finish(file: FileOnDisk, answer: Answer) -> None:
            nonlocal left
            left -= 1
            if done.done():
                return
            assert not isinstance(answer, MissingBytes)
            try:
                take(file, answer)
            except Exception as error:
                done.set_exception(error)
            else:
                if not left:
                    done.set_result(None)

        if files:
            jobs = [ParseJob(file, folder, lambda answer, file=file: finish(file, answer)) for file in files]  # type: ignore[misc]
            await self._run(jobs, done)

    async def examine(self, file: FileToParse) -> Examined | MissingBytes | Fault:
        """Examines a file whose bytes are here, once: the answer may be that other bytes are needed.

        Raises:
            MusicFSError: No parser process starts.
        """
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def finish(answer: Answer) -> None:
            if not done.done():
                done.set_result(answer)

        answer = await self._run([ParseJob(file, None, finish)], done)
        assert isinstance(answer, Examined | MissingBytes | Fault)
        return answer

    def close(self) -> None:
        """Kills the processes; calls under way are cancelled."""
        for future in self._waiting:
            future.cancel()
        processes, self._processes = self._processes, []
        for process in processes:
            process.close()
        self._threads.close()

    async def _run(self, jobs: list[ParseJob], done: asyncio.Future[object]) -> object:
        self._waiting.add(done)
        self._queue += jobs
        self._weight += sum(job.weight for job in jobs)
        self._dispatch()
        try:
            return await done
        except asyncio.CancelledError:
            self._forget(jobs)
            raise
        finally:
            self._waiting.discard(done)

    def _forget(self, jobs: Sequence[ParseJob]) -> None:
        """Takes the jobs of a caller that has gone out of the queue."""
        gone = set(jobs)
        self._queue = deque(job for job in self._queue if job not in gone)
        self._weight = sum(job.weight for job in self._queue)

    def _dispatch(self) -> None:
        for process in self._processes:
            process.wake()
        wanted = min(self._size, -(-self._weight // _WORTH_A_PROCESS))
        while self._queue and len(self._processes) < wanted and self._start():
            pass

    def _start(self) -> bool:
        process = ParserProcess(self, self._threads, self._make_command)
        try:
            process.start()
        except OSError as error:
            log.warning("no process to read tags could be started: %s", error)
            self._failed_starts = _MAX_FAILED_STARTS
            self._give_up()
            return False
        self._processes.append(process)
        return True

    def _give_up(self) -> None:
        if self._processes or self._failed_starts < _MAX_FAILED_STARTS:
            return
        self._failed_starts = 0
        self._queue.clear()
        self._weight = 0
        for future in self._waiting:
            if not future.done():
                future.set_exception(MusicFSError("the processes that read tags do not start; see the log"))

    # What a process asks of its owner

    def take(self, weight: int) -> list[ParseJob]:
        """Takes jobs out of the queue: at least one if there are any, else as many as the weight allows."""
        jobs: list[ParseJob] = []
        while self._queue and len(jobs) < MAX_FILES and (not jobs or self._queue[0].weight <= weight):
            job = self._queue.popleft()
            weight -= job.weight
            self._weight -= job.weight
            jobs.append(job)
        return jobs

    def put_back(self, jobs: Sequence[ParseJob]) -> None:
        """Puts jobs back to the front of the queue."""
        self._queue.extendleft(reversed(jobs))
        self._weight += sum(job.weight for job in jobs)

    def ended(self, process: ParserProcess) -> None:
        """Replaces a process that has ended, if there is work."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        self._failed_starts = 0 if process.is_ready else self._failed_starts + 1
        self._give_up()
        self._dispatch()
