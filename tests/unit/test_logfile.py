"""The log file is one file for all who write to it, however often it is full."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import syslog
from pathlib import Path

import pytest

from musicfs.system.log_file import LogFile
from musicfs.system.ownership import Untrusted, open_private


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("musicfs", logging.WARNING, "", 0, text, None, None)


def test_standard_error_stays_in_the_log_when_that_is_full_and_all_of_it_is_private(tmp_path: Path) -> None:
    path = tmp_path / "musicfs.log"
    errors = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handler = LogFile(path, max_bytes=1000)
    for number in range(100):
        handler.emit(record(f"{number:0100}"))
    os.write(errors, b"a traceback\n")
    handler.emit(record("the last"))
    handler.close()
    assert path.read_text().endswith("a traceback\nthe last\n")
    assert os.fstat(errors).st_ino == path.stat().st_ino
    os.close(errors)
    lines = [line for name in ("musicfs.log.2", "musicfs.log.1") for line in (tmp_path / name).read_text().split()]
    assert [int(line) for line in lines] == list(range(int(lines[0]), int(lines[0]) + len(lines)))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {"musicfs.log": 0o600, "musicfs.log.1": 0o600, "musicfs.log.2": 0o600}
    assert all(each.stat().st_size <= 1000 for each in tmp_path.iterdir())


def test_a_link_in_place_of_the_log_or_of_an_older_one_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "musicfs.log").symlink_to("precious")
    with pytest.raises(Untrusted, match="symbolic link"):
        LogFile(tmp_path / "musicfs.log")
    (tmp_path / "musicfs.log").unlink()
    handler = LogFile(tmp_path / "musicfs.log", max_bytes=100)
    (tmp_path / "musicfs.log.1").symlink_to("precious")
    for _ in range(5):
        handler.emit(record("x" * 80))
    handler.close()
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_name_that_is_not_utf_8_can_be_logged(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "musicfs.log")
    handler.emit(record(os.fsdecode(b"caf\xe9")))
    handler.close()
    assert (tmp_path / "musicfs.log").read_text() == "caf\\udce9\n"


def test_what_a_full_disk_does_not_take_goes_to_the_log_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: said.append(text))
    handler = LogFile(tmp_path / "musicfs.log")
    assert handler.stream is not None
    file = handler.stream
    monkeypatch.setattr(handler, "stream", FullDisk())
    handler.emit(record("the cache stops"))
    file.close()
    assert said == [f"musicfs[{os.getpid()}]: the cache stops"]
    assert capsys.readouterr().err == ""
