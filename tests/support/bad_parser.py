"""A parser process that has gone bad: a real one until it gets a file with a special name, in whatever way it comes.

`command(deed)` makes a pool's processes bad; the deed is one of `DEEDS`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from musicfs.model import Fingerprint
from musicfs.system import confinement, processes
from musicfs.tags import parse_messages, parser, parser_process
from musicfs.tags.parser import Examined, FileOnDisk, MissingBytes, examine, examine_open

BAD = "bad.flac"


def _send(data: bytes) -> None:
    socket.socket(fileno=int(sys.argv[1])).sendall(data)


def _answer(text: bytes) -> Callable[[], object]:
    def send() -> None:
        _send(parse_messages.frame(text))
        time.sleep(1000)

    return send


def _take_memory() -> object:
    return [bytes(1 << 20) for _ in range(100)]


def _burn() -> None:
    while True:
        pass


def _close_socket() -> None:
    os.close(int(sys.argv[1]))
    time.sleep(1000)


def _answer_for_ever() -> None:
    while True:
        _send(b"\0\0\xff\xff\0\0\0\0" + b"1" * 0xFFFF)


def _try_what_is_forbidden() -> Examined:
    port = int(os.environ["PATH"].rpartition("/")[2])
    outcomes = {"landlock": str(confinement.forbid_files_and_tcp())}
    attempts: dict[str, Callable[[], object]] = {
        "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "own": lambda: os.open(__file__, os.O_RDONLY),
        "list": lambda: list(Path("/").iterdir()),
        "again": lambda: os.open("/proc/self/fd/0", os.O_RDONLY),
        "make": lambda: os.open("/tmp/made", os.O_CREAT | os.O_WRONLY),
        "folder": Path("/tmp/made").mkdir,
        "run": lambda: os.execv("/bin/true", ["true"]),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), 5),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "signal": lambda: os.kill(os.getppid(), 0),
        "memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, ValueError):
            outcomes[name] = "refused"
        else:
            outcomes[name] = "done"
    return _said(" ".join(f"{name}={outcome}" for name, outcome in outcomes.items()))


def _said(text: str) -> Examined:
    return Examined(Fingerprint(bytes(32)), None, text)


def _show_limits() -> Examined:
    soft = {
        "processes": resource.RLIMIT_NPROC,
        "size": resource.RLIMIT_FSIZE,
        "core": resource.RLIMIT_CORE,
        "memory": resource.RLIMIT_AS,
    }
    prctl = ctypes.CDLL(None).prctl
    shown = [f"{name}={resource.getrlimit(which)[0]}" for name, which in soft.items()]
    shown += [f"NoNewPrivs={prctl(39, 0, 0, 0, 0)}", f"dumpable={prctl(3, 0, 0, 0, 0)}"]
    statm = next(fd for fd in range(3, 20) if _is_statm(fd))
    own = int(os.pread(statm, 64, 0).split()[0]) * resource.getpagesize()
    return _said(" ".join([*shown, f"own={own}", f"most={resource.getrlimit(resource.RLIMIT_AS)[1]}"]))


def _is_statm(fd: int) -> bool:
    try:
        return len(os.pread(fd, 64, 0).split()) == 7
    except OSError:
        return False


def _take_memory_while_parsing() -> Examined:
    def read_much(*_: object) -> object:
        return [bytes(1 << 20) for _ in range(100)]

    vars(parser).update(read_tags=read_much)
    found = examine(BAD, "audio", 4, {0: b"fLaC"})
    assert isinstance(found, Examined)
    return found


DEEDS: dict[str, Callable[[], object]] = {
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": lambda: ctypes.string_at(1),
    "exits": lambda: os._exit(0),
    "says that it retires": lambda: os._exit(parse_messages.RETIRED),
    "hangs": lambda: time.sleep(1000),
    "closes its socket": _close_socket,
    "burns": _burn,
    "takes memory": _take_memory,
    "rubbish": _answer(b"\x80\x04}rubbish"),
    "a pickle": _answer(b"cos\nsystem\n(S'true'\ntR."),
    "deep": _answer(b"[" * 100_000),
    "huge": lambda: _send(b"\xff" * 8 + bytes(10_000_000)),
    "endless": _answer_for_ever,
    "tags of wrong types": _answer(json.dumps(["00" * 32, {"format": "flac", "codec": 1}, None]).encode()),
    "a path for a format": _answer(json.dumps(["00" * 32, {"format": "../x", "codec": "a"}, None]).encode()),
    "a range outside": _answer(b"[1000000000000, 5, 0.0]"),
    "too many answers": lambda: _send(parse_messages.answer(None) * 100),
}


QUESTIONS: dict[str, Callable[[], Examined]] = {
    "tries what is forbidden": _try_what_is_forbidden,
    "shows its limits": _show_limits,
    "shows its environment": lambda: _said(" ".join(f"{k}={v}" for k, v in os.environ.items())),
    "takes memory while it parses": _take_memory_while_parsing,
}
"""What such a parser answers to, honestly."""


def command(deed: str) -> Callable[[int, int], list[str]]:
    def make(end: int, progress: int) -> list[str]:
        code = f"from tests.support.bad_parser import main; main({deed!r})"
        return [sys.executable, "-P", "-c", code, str(end), str(os.getpid()), str(progress)]

    return make


def main(deed: str) -> None:
    """The parser's own main function. Of the file with the special name, it does the deed instead of the parsing."""

    def examine_bad(name: str, role: str, size: int, ranges: Mapping[int, bytes]) -> Examined | MissingBytes:
        if name == BAD and deed in QUESTIONS:
            return QUESTIONS[deed]()
        if name == BAD:
            DEEDS[deed]()
        return examine(name, role, size, ranges)

    def examine_bad_open(fd: int, file: FileOnDisk) -> Examined | None:
        if file.path == BAD:
            DEEDS[deed]()
        return examine_open(fd, file)

    vars(parser_process).update(examine=examine_bad, examine_open=examine_bad_open)
    parser_process.main()


def environment() -> dict[str, str]:
    """What makes `tests` importable in the processes that a pool starts."""
    own = str(Path(__file__).parents[2])
    return processes.bare_environment() | {"PYTHONPATH": f"{own}:{own}/src"}
