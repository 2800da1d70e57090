"""A real server as a foreground process on loopback: started, stopped, continued, killed and started again.

    with Server(["/usr/sbin/sshd", "-D", "-e", "-f", str(conf)], port, tmp_path / "sshd.log") as server:
        server.kill()
        server.start()

All of it blocks, for some milliseconds as a rule: in a test with an event loop that must go on meanwhile (one with
timeouts under way), call it by `await asyncio.to_thread(server.start)`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from musicfs.testing.ports import HOST, free_port

__all__ = ["HOST", "PATIENCE", "Server", "free_port", "listens"]

PATIENCE = 60.0
"""Seconds that nothing should ever need."""
_POLL = 0.01
_POLITE_SECS = 3.0


def listens(port: int) -> bool:
    """Whether a TCP connection is accepted at the port."""
    try:
        with socket.create_connection((HOST, port), 1):
            return True
    except OSError:
        return False


class Server:
    """One server, together with the processes that it forks; as a context manager it is gone at the end.

    command: must stay in the foreground. port: where it listens. log: takes its output. ready: whether it can serve;
    by default, whether it accepts a connection. Everything fails the test, with the log's end, instead of hanging.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        ready: Callable[[], bool] | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = command
        self.port = port
        self.log = log
        self._ready = ready or (lambda: listens(port))
        self._environ = environ
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.command[0]} is not running"
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it can serve. Also after `kill`, at the same port."""
        assert self._process is None, f"{self.command[0]} is running already"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environ,
                cwd=self._cwd, start_new_session=True,
            )  # fmt: skip
        try:
            self._await(self._is_up, "is not ready")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """SIGSTOP to all its processes: connections stay, and nothing answers. Returns when they have stopped."""

        def all_still() -> bool:
            stopped = self._signal(signal.SIGSTOP)
            return all(map(_is_still, stopped)) and self.processes() <= stopped  # or some were forked meanwhile

        self._await(all_still, "did not stop")

    def cont(self) -> None:
        """SIGCONT: it goes on where it stopped."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all its processes at once. Returns when they have gone. Does nothing when it is not running."""
        if self._process is None:
            return
        self.stop()  # so that none forks and gets away
        killed = self._signal(signal.SIGKILL)
        self._process.wait(PATIENCE)
        psutil.wait_procs(list(killed), PATIENCE)
        self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def end(self) -> None:
        """Asks it to end, then kills what is left."""
        if self._process is None:
            return
        self.cont()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            before = self.processes()
            self._process.wait(_POLITE_SECS)
            for process in psutil.wait_procs(list(before), 0.1)[1]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.kill()

    def processes(self) -> set[psutil.Process]:
        """Itself, what it has forked, and the rest of its session; zombies do not count."""
        found = set()
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.pid)
            found = {leader, *leader.children(recursive=True)}
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self.pid:
                    found.add(process)
        return {process for process in found if _state(process) not in (psutil.STATUS_ZOMBIE, "")}

    def _signal(self, number: int) -> set[psutil.Process]:
        """Signals all; those that it reached."""
        reached = set()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                reached.add(process)
        return reached

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._told(f"ended with {self._process.returncode}")
        return self._ready()

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, self._told(f"{otherwise} after {PATIENCE} s")
            time.sleep(_POLL)

    def _told(self, what: str) -> str:
        return f"{self.command[0]} {what}:\n{self.log.read_text(errors='replace')[-3000:]}"


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return ""


def _is_still(process: psutil.Process) -> bool:
    return _state(process) in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE, "")
