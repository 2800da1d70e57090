"""No place is ever modified; every write gets EROFS, root's too."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.audio import make_album
from tests.support.mounting import Account, Mount, account, place

ALBUM = "Artist/Album (1999) [FLAC]"
FILE = f"{ALBUM}/01 - Title 1.flac"


def snapshot(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """(mode, mtime_ns, ctime_ns, digest) of everything below `root`, by path."""
    found = {}
    for path in [root, *root.rglob("*")]:
        about = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(root))] = (about.st_mode, about.st_mtime_ns, about.st_ctime_ns, digest)
    return found


def _open(flags: int) -> Callable[[Path, Path, Path], object]:
    return lambda file, folder, new: os.close(os.open(file, flags))


WRITES: dict[str, Callable[[Path, Path, Path], object]] = {
    "open for writing": _open(os.O_WRONLY),
    "open for reading and writing": _open(os.O_RDWR),
    "open to append": _open(os.O_WRONLY | os.O_APPEND),
    "open and truncate": _open(os.O_WRONLY | os.O_TRUNC),
    "open to read and truncate": _open(os.O_RDONLY | os.O_TRUNC),
    "create": lambda file, folder, new: os.close(os.open(new, os.O_WRONLY | os.O_CREAT)),
    "create exclusively": lambda file, folder, new: os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "create without a name": lambda file, folder, new: os.close(os.open(folder, os.O_WRONLY | os.O_TMPFILE)),
    "mkdir": lambda file, folder, new: new.mkdir(),
    "mknod": lambda file, folder, new: os.mknod(new, stat.S_IFIFO | 0o600),
    "unlink": lambda file, folder, new: file.unlink(),
    "rmdir": lambda file, folder, new: folder.rmdir(),
    "rename": lambda file, folder, new: file.rename(new),
    "rename a folder": lambda file, folder, new: folder.rename(folder.with_name("new")),
    "link": lambda file, folder, new: new.hardlink_to(file),
    "symlink": lambda file, folder, new: new.symlink_to("target"),
    "chmod": lambda file, folder, new: file.chmod(0o600),
    "chmod a folder": lambda file, folder, new: folder.chmod(0o700),
    "chown": lambda file, folder, new: os.chown(file, os.getuid(), os.getgid()),
    "truncate": lambda file, folder, new: os.truncate(file, 0),
    "utimes": lambda file, folder, new: os.utime(file, (1, 1)),
    "touch": lambda file, folder, new: os.utime(file),
    "setxattr": lambda file, folder, new: os.setxattr(file, "user.comment", b"x"),
    "set one of our own": lambda file, folder, new: os.setxattr(file, "user.musicfs.origin", b"x"),
    "removexattr": lambda file, folder, new: os.removexattr(file, "user.musicfs.origin"),
}


def attempt(top: Path) -> dict[str, str]:
    """Tries every write; what each of them failed with, or "done"."""
    results = {}
    for name, write in WRITES.items():
        try:
            write(top / FILE, top / ALBUM, top / ALBUM / "new")
        except OSError as error:
            results[name] = errno.errorcode[error.errno or 0]
        else:
            results[name] = "done"
    return results


@pytest.fixture(scope="module")
def mount(who: Account) -> Iterator[Mount]:
    with place(who) as here:
        roots = {id: here.origins / id for id in ("one", "two")}
        for root in roots.values():
            make_album(root, "Artist", "Album", 2)
            (root / "Artist/Album/cover.jpg").write_bytes(b"\xff\xd8\xff picture")
            for path in root.rglob("*"):  # so that nothing but the mount's own care keeps them as they are
                path.chmod(0o777 if path.is_dir() else 0o666)
        with Mount(here, roots) as mount:
            yield mount.scanned()


def test_every_write_gets_erofs_and_the_origins_stay_as_they_are(mount: Mount) -> None:
    before = {id: snapshot(root) for id, root in mount.origins.items()}
    assert mount.here.call(attempt, mount.path) == dict.fromkeys(WRITES, "EROFS")
    for file in sorted(path for path in before["one"] if path.endswith(".flac")):
        assert mount.here.call(Path.read_bytes, mount.path / ALBUM / Path(file).name)
    assert {id: snapshot(root) for id, root in mount.origins.items()} == before


@pytest.mark.parametrize(
    "command",
    [
        ("fallocate", "-l", "1M", FILE),
        ("touch", "new"),
        ("rm", "-f", FILE),
        ("cp", "/etc/hostname", f"{ALBUM}/hostname"),
        ("sed", "-i", "s/a/b/", FILE),
        ("setfattr", "-n", "user.x", "-v", "y", FILE),
    ],
    ids=lambda command: command[0],
)
def test_programs_are_told_that_the_filesystem_is_read_only(mount: Mount, command: tuple[str, ...]) -> None:
    done = mount.here.run("sh", "-c", 'cd "$0" && exec "$@"', mount.path, *command, check=False)
    assert done.returncode != 0
    assert "read-only file system" in done.stderr.lower()


def test_write_permission_is_denied_to_whoever_asks(mount: Mount) -> None:
    for path in (mount.path, mount.path / ALBUM, mount.path / FILE):
        assert mount.here.call(os.access, path, os.R_OK)
        assert not mount.here.call(os.access, path, os.W_OK)


def test_a_mount_that_root_made_writable_still_refuses_every_write() -> None:
    with place(account("root")) as here:
        make_album(here.origins / "one", "Artist", "Album", 2)
        with Mount(here, {"one": here.origins / "one"}) as mount:
            mount.scanned()
            before = snapshot(here.origins)
            here.run("mount", "-i", "-o", "remount,rw", mount.path)
            results = here.call(attempt, mount.path)
            assert results.pop("create without a name") == "ENOTSUP"
            assert set(results.values()) == {"EROFS"}, results
            assert snapshot(here.origins) == before
