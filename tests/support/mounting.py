"""Real mounts for tests: a daemon in a process of its own, as root or as an ordinary user, that always goes away.

Nothing here waits without a limit, and nothing touches the mount from within the test's own process: what would hang
on a broken mount fails the test instead.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from musicfs.mount import mount_points
from tests.support.agent import Agent

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that nothing should ever need; a broken build does."""
POLL = 0.02


def eventually(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> float:
    """Polls until `condition()` is true; returns the seconds it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + timeout:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(POLL)
    return time.monotonic() - start


@dataclass(frozen=True)
class Account:
    """Who mounts. prefix: the command that becomes this user. python: an interpreter that this user may run.
    checkout: where this user finds ours."""

    name: str
    prefix: tuple[str, ...]
    python: str
    checkout: Path

    def environ(self, home: Path) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "PYTHONPATH": os.pathsep.join(map(str, (*self._sources(), self._packages()))),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _sources(self) -> tuple[Path, ...]:
        return self.checkout / "src", self.checkout / "examples/musicfs-webdav/src", self.checkout

    def _packages(self) -> Path:
        """The folder of the installed packages, which is in the checkout if the virtual environment is."""
        packages = Path(sysconfig.get_path("purelib"))
        return self.checkout / packages.relative_to(ROOT) if packages.is_relative_to(ROOT) else packages

    def command(self, environ: Mapping[str, str], *command: str) -> list[str]:
        """`command` as this user; the environment goes by env(1), since sudo clears it."""
        return [*self.prefix, "env", *(f"{name}={value}" for name, value in environ.items()), *command]


_ORDINARY = ("nobody", "games", "daemon")


@functools.cache
def account(kind: str) -> Account:
    """ "root", or "ordinary": the user who runs the tests, or an unprivileged account of the system if that is root."""
    we_are_root = os.geteuid() == 0
    prefix: tuple[str, ...] = ()
    name = pwd.getpwuid(os.geteuid()).pw_name
    if kind == "root" and not we_are_root:
        name, prefix = "root", ("sudo", "-n")
    elif kind == "ordinary" and we_are_root:
        entry = next(pwd.getpwnam(each) for each in _ORDINARY if _exists(each))
        name = entry.pw_name
        prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups")
    return Account(name, prefix, _interpreter(prefix), _checkout(prefix))


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _checkout(prefix: Sequence[str]) -> Path:
    """Ours, or where it lies in a folder that is closed to the other user, as /root is, a view of it that is not."""
    if subprocess.run([*prefix, "test", "-r", __file__], timeout=PATIENCE, check=False).returncode == 0:
        return ROOT
    open_to_all = Path(tempfile.mkdtemp(prefix="musicfs-checkout-"))
    open_to_all.chmod(0o755)
    view = open_to_all / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", str(ROOT), str(view)], timeout=PATIENCE, check=True)

    def forget() -> None:
        subprocess.run(["umount", "--lazy", str(view)], timeout=PATIENCE, check=False)
        view.rmdir()
        open_to_all.rmdir()

    atexit.register(forget)
    return view


def _interpreter(prefix: Sequence[str]) -> str:
    """Ours, unless it lies in a folder that is closed to the other user; then the system's of the same version."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        # By a shell, since what becomes the other user may find the interpreter while it is still root.
        check = [*prefix, "sh", "-c", '"$0" -c "import ssl"', python]
        if subprocess.run(check, capture_output=True, timeout=PATIENCE, check=False).returncode == 0:
            return python
    raise AssertionError(f"{' '.join(prefix)} can't run {sys.executable}: use an interpreter that everybody may run.")


class Place:
    """Folders for one mount: `origins` for the music, owned by us; `user` for what belongs to the one who mounts."""

    def __init__(self, base: Path, who: Account) -> None:
        self.base = base
        self.who = who
        self.origins = base / "origins"
        self.user = base / "user"
        self.mount_point = self.user / "Music"
        self.cache_dir = self.user / "cache"
        self.environ = who.environ(self.user)
        self.agent = Agent(
            who.command(self.environ, who.python, "-m", "tests.support.agent"), {"PATH": os.environ["PATH"]}
        )

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the function as the user who mounts, for at most PATIENCE seconds."""
        return self.agent.call(PATIENCE, function, *args, **kwargs)

    def run(
        self, *command: str | Path, timeout: float = PATIENCE, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program as the user who mounts; its output is text. check: its failure fails the test."""
        full = self.who.command(self.environ, *map(str, command))
        with subprocess.Popen(
            full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="surrogateescape", cwd=cwd or self.base, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                self.signal(-process.pid, signal.SIGKILL)
                raise AssertionError(f"{command} did not end within {timeout} s") from None
        done = subprocess.CompletedProcess(full, process.returncode, out, err)
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{out[-2000:]}{err[-2000:]}"
        return done

    def signal(self, pid: int, number: int) -> None:
        """To a process, or to a group when negative; it may belong to the other user."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            kill = [*self.who.prefix, "kill", f"-{number}", "--", str(pid)]
            subprocess.run(kill, check=False, timeout=PATIENCE, capture_output=True)


@contextmanager
def place(who: Account) -> Iterator[Place]:
    """Folders outside of pytest's own, which are closed to other users."""
    base = Path(tempfile.mkdtemp(prefix="musicfs-mount-"))
    base.chmod(0o1777)
    here = Place(base, who)
    try:
        here.origins.mkdir()
        here.run("mkdir", "-p", "-m", "700", here.user / "run")
        here.run("chmod", "755", here.user)
        here.run("mkdir", here.mount_point)
        yield here
    finally:
        here.agent.close()
        here.run("rm", "-rf", "--one-file-system", here.user, check=False)
        shutil.rmtree(base, ignore_errors=True)


class Mount:
    """One daemon, started at most once. As a context manager it is gone at the end, whatever happened."""

    def __init__(
        self,
        here: Place,
        origins: Mapping[str, Path],
        *,
        switches: Mapping[str, Path] | None = None,
        mount_point: Path | None = None,
        **settings: Any,
    ) -> None:
        self.here = here
        self.path = mount_point or here.mount_point
        self.origins = origins
        tables = [
            {"id": id, "priority": number} | _settings_of(root, settings.pop(id, {}))
            for number, (id, root) in enumerate(origins.items())
        ]
        config = {"mount_point": str(self.path), "cache_dir": str(here.cache_dir), "origins": tables} | settings
        self._wanted = {"config": config, "switches": {id: str(path) for id, path in (switches or {}).items()}}
        self.events: list[dict[str, Any]] = []
        self.pid = 0
        self._errors = ""
        self._ended = False
        self._session: int | None = None
        self._arrived = threading.Condition()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Mount:
        self.launch()
        try:
            self.wait_for("mounted")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def launch(self) -> None:
        command = [self.here.who.python, "-m", "tests.support.mount_driver", json.dumps(self._wanted)]
        self._process = subprocess.Popen(
            self.here.who.command(self.here.environ, *command),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        self._session = self._process.pid
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._take_events, self._take_errors)]
        for thread in self._threads:
            thread.start()

    def _take_events(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._arrived:
                    self.events.append(json.loads(line))
                    self.pid = self.pid or self.events[-1].get("pid", 0)
                    self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def _take_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._errors += line

    @property
    def log(self) -> str:
        """What the daemon and its worker have written to standard error."""
        return self._errors

    def seen(self, event: str, since: int = 0, **fields: object) -> dict[str, Any] | None:
        """The first such event, not counting the first `since` events."""
        for each in self.events[since:]:
            if each["event"] == event and all(each[name] == value for name, value in fields.items()):
                return each
        return None

    def wait_for(self, event: str, since: int = 0, **fields: object) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        with self._arrived:
            while (found := self.seen(event, since, **fields)) is None and not self._ended:
                if not self._arrived.wait(max(0.0, until - time.monotonic())):
                    break
        assert found is not None, f"no {event} {fields} of {self.events[-5:]}\n{self._errors[-3000:]}"
        return found

    def scanned(self, since: int = 0) -> Mount:
        """Waits until every origin has been scanned."""
        for origin in self.origins:
            self.wait_for("ScanFinished", since, origin=origin, error=None)
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Waits for the daemon's end; its exit code."""
        assert self._process is not None
        code = self._process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(5)
        return code

    def signal(self, number: int) -> None:
        self.here.signal(self.pid, number)

    def is_mounted(self) -> bool:
        return mount_points.mounted(self.path) is not None

    def processes(self) -> dict[int, str]:
        """The command lines of the daemon and of whatever it has started, by process id."""
        return {} if self._session is None else session(self._session)

    def worker(self) -> int:
        """The process id of the library worker."""
        return next(pid for pid, line in self.processes().items() if "musicfs.library " in line)

    def end(self) -> None:
        """Ends everything: politely, then not; nothing of it may hang."""
        if self._process is None:
            return
        if self.running:
            self.here.signal(self.pid or self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        # What is left of its session: the daemon itself, workers that it did not take along.
        self.here.signal(-self._process.pid, signal.SIGKILL)
        self.unmount_lazily()
        self._process.wait(10)
        for thread in self._threads:
            thread.join(10)  # they read until the last process of the session has gone
        assert not any(thread.is_alive() for thread in self._threads), "a process of the daemon's lives on"
        self._process = None

    def unmount_lazily(self) -> None:
        while self.is_mounted():
            command = ["fusermount3", "-u", "-z", str(self.path)]
            done = subprocess.run([*self.here.who.prefix, *command], check=False, timeout=PATIENCE, capture_output=True)
            if done.returncode != 0:
                break


def _settings_of(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a local origin, unless what is said of it names its kind."""
    return dict(said) if "origin_type" in said else {"origin_type": "local", "path": str(root), **said}


def session(leader: int) -> dict[int, str]:
    """The command lines of a session's living processes, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its) == leader and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found
