"""Runs functions for a test in another process, as another user if need be, and for a limited time.

A system call on a broken mount can't be interrupted from within its process; this one can be killed.
"""

from __future__ import annotations

import os
import pickle
import selectors
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_LENGTH = struct.Struct("!Q")


class TookTooLong(AssertionError):
    """What was asked for did not answer in time."""


class Agent:
    """Starts with the first call, and again after a call that took too long, or when it has ended.

    command: what starts `python -m tests.support.agent`.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, timeout: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function, importable by name, returns or raises there."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, (function, args, kwargs))
        answer = _receive(self._process.stdout, time.monotonic() + timeout)
        if answer is None:
            self.close()
            raise TookTooLong(f"{getattr(function, '__name__', function)}{args} did not answer within {timeout} s")
        done, value = answer
        if not done:
            raise value
        return cast(T, value)

    def close(self) -> None:
        """Kills the process. Not waited for long: a call that hangs in the kernel ends with its mount."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            return


def _send(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[stream.write(rest) :]


def _receive(stream: IO[bytes], until: float) -> Any:
    """None when nothing whole came in time."""
    length = _exactly(stream, _LENGTH.size, until)
    if length is None:
        return None
    data = _exactly(stream, _LENGTH.unpack(length)[0], until)
    return None if data is None else pickle.loads(data)


def _exactly(stream: IO[bytes], size: int, until: float) -> bytes | None:
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(data) < size:
            if not selector.select(max(0.0, until - time.monotonic())):
                return None
            more = stream.read(size - len(data))
            if not more:
                return None
            data += more
    return bytes(data)


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    while (request := _receive(requests, time.monotonic() + 3600)) is not None:
        function, args, kwargs = request
        try:
            answer = True, function(*args, **kwargs)
        except Exception as error:
            answer = False, error
        _send(answers, answer)


if __name__ == "__main__":
    main()
