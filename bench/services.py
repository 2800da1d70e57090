"""Real servers with a library each, and what can be mounted over them: MusicFS, and peers with their usual settings."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST, PATIENCE
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import sshd
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift

from bench.contenders import MusicFS, output_of, unmount, wait_mounted


@dataclass(frozen=True)
class Peer:
    """Another program. command: stays in the foreground. fresh: a folder that is emptied before each mount."""

    name: str
    mount_point: Path
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    fresh: Path | None = None

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.mount_point.mkdir(parents=True, exist_ok=True)
        if self.fresh is not None:
            shutil.rmtree(self.fresh, ignore_errors=True)
            self.fresh.mkdir(parents=True)
        log = self.mount_point.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(self.command, env=os.environ | self.environ, stdout=output, stderr=output)
        try:
            wait_mounted(self.mount_point, lambda: process.poll() is None, log)
            yield self.mount_point
        finally:
            if os.path.ismount(self.mount_point):
                unmount(self.mount_point)
            process.terminate()
            process.wait(PATIENCE)


@dataclass(frozen=True)
class RemoteMusicFS(MusicFS):
    """This project over one remote origin, at its defaults. Its catalogue was filled before, its cache is empty."""

    name = "musicfs"
    settings: Mapping[str, object] = field(default_factory=dict)
    scanned: Path = Path()
    """The cache folder after a scan: each mount begins with a copy of it."""

    def options(self) -> list[str]:
        return ["--config", str(self._config(self.cache_dir))]

    def scan(self, *options: str) -> str:
        """Fills the catalogue that each mount begins with; what the command said."""
        shutil.rmtree(self.scanned, ignore_errors=True)
        command = self.command("scan", "--config", str(self._config(self.scanned)), *options)
        return output_of(command)

    def start(self) -> None:
        shutil.rmtree(self.cache_dir, ignore_errors=True)
        shutil.copytree(self.scanned, self.cache_dir)
        super().start()

    def _config(self, cache_dir: Path) -> Path:
        path = self.mount_point.with_suffix(".toml")
        lines = [f"cache_dir = {str(cache_dir)!r}", "[[origins]]", 'id = "far"']
        lines += [f"{name} = {value!r}" for name, value in self.settings.items()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
        path.chmod(0o600)
        return path


@dataclass(frozen=True)
class Service:
    """A running server of one kind, which has the library below `bench` of what it serves.

    port: where it listens. settings: of an origin, for a port. peers: by the port, and a folder for their mounts.
    """

    kind: str
    port: int
    settings: Callable[[int], dict[str, object]]
    peers: Callable[[int, Path], list[Peer]]


def _rclone(base: Path, remote: str, environ: Mapping[str, str], *more: str) -> list[Peer]:
    """Returns rclone in both cache modes that people use, with the fewest options that it needs."""
    peers = []
    for mode in ("off", "full"):
        here = base / f"rclone-{mode}"
        command = [
            "rclone", "mount", remote, str(here), "--read-only", "--config", "", "--vfs-cache-mode", mode,
            "--cache-dir", str(base / f"rclone-{mode}-cache"), *more,
        ]  # fmt: skip
        peers.append(Peer(f"rclone {mode}", here, command, environ, base / f"rclone-{mode}-cache"))
    return peers


@contextmanager
def sftp(library: Path) -> Iterator[Service]:
    """OpenSSH. sshfs as it is by default; rclone with its cache off and full."""
    with sshd() as server:

        def settings(port: int) -> dict[str, object]:
            return {
                "origin_type": "sftp", "host": HOST, "port": port, "path": str(library), "user": server.user,
                "key_file": str(server.key), "known_hosts": str(server.known_as(port)),
            }  # fmt: skip

        def peers(port: int, base: Path) -> list[Peer]:
            known = server.known_as(port)
            here = base / "sshfs"
            sshfs = [
                "sshfs", "-f", "-p", str(port), "-o", f"ro,IdentityFile={server.key},UserKnownHostsFile={known}",
                f"{server.user}@{HOST}:{library}", str(here),
            ]  # fmt: skip
            environ = {
                "RCLONE_SFTP_HOST": HOST, "RCLONE_SFTP_PORT": str(port), "RCLONE_SFTP_USER": server.user,
                "RCLONE_SFTP_KEY_FILE": str(server.key), "RCLONE_SFTP_KNOWN_HOSTS_FILE": str(known),
            }  # fmt: skip
            return [Peer("sshfs", here, sshfs), *_rclone(base, f":sftp:{library}", environ)]

        yield Service("SFTP", server.port, settings, peers)


@contextmanager
def smb(library: Path) -> Iterator[Service]:
    """Samba. rclone with its cache off and full."""
    with Samba() as server:
        _link(library, server.root)
        os.environ["MUSICFS_FAR_PASSWORD"] = PASSWORD

        def settings(port: int) -> dict[str, object]:
            return {
                "origin_type": "smb", "host": HOST, "port": port, "share": SHARE, "user": server.user,
            }  # fmt: skip

        def peers(port: int, base: Path) -> list[Peer]:
            environ = {
                "RCLONE_SMB_HOST": HOST, "RCLONE_SMB_PORT": str(port), "RCLONE_SMB_USER": server.user,
                "RCLONE_SMB_PASS": _obscured(PASSWORD),
            }  # fmt: skip
            return _rclone(base, f":smb:{SHARE}", environ)

        yield Service("SMB", server.port, settings, peers)


@contextmanager
def nfs(library: Path) -> Iterator[Service]:
    """NFS-Ganesha. Nobody to compare with: neither rclone nor a FUSE peer of Debian's speaks NFS."""
    home = library.parent / "ganesha"
    home.mkdir(exist_ok=True)
    server = Ganesha(library, home, squash="No_Root_Squash")
    with server:

        def settings(port: int) -> dict[str, object]:
            return {
                "origin_type": "nfs", "host": HOST, "port": port, "mount_port": server.mount_port,
                "export": str(library),
            }  # fmt: skip

        yield Service("NFS", server.port, settings, lambda port, base: [])


@contextmanager
def s3(library: Path) -> Iterator[Service]:
    """Swift. s3fs as it is by default; rclone with its cache off and full, and --use-server-modtime as it advises."""
    home = library.parent / "swift"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    with Swift(home) as server:
        bucket = server.make_bucket()
        os.environ |= {"MUSICFS_FAR_ACCESS_KEY_ID": ACCESS_KEY_ID, "MUSICFS_FAR_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
        for path in sorted(library.rglob("*")):
            if path.is_file():
                server.put_all(bucket, {str(path.relative_to(library)): path.read_bytes()})

        def settings(port: int) -> dict[str, object]:
            return {
                "origin_type": "s3", "bucket": bucket, "endpoint": f"http://{HOST}:{port}",
            }  # fmt: skip

        def peers(port: int, base: Path) -> list[Peer]:
            url, here = f"http://{HOST}:{port}", base / "s3fs"
            environ = {
                "RCLONE_S3_PROVIDER": "Other", "RCLONE_S3_ENDPOINT": url, "RCLONE_S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
                "RCLONE_S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY, "RCLONE_S3_REGION": "us-east-1",
                "AWS_CA_BUNDLE": "",  # rclone does not start where this is set
            }  # fmt: skip
            keys = {"AWSACCESSKEYID": ACCESS_KEY_ID, "AWSSECRETACCESSKEY": SECRET_ACCESS_KEY}
            options = f"ro,url={url},use_path_request_style,endpoint=us-east-1"
            s3fs = Peer("s3fs", here, ["s3fs", bucket, str(here), "-f", "-o", options], keys)
            return [s3fs, *_rclone(base, f":s3:{bucket}", environ, "--use-server-modtime")]

        yield Service("S3", server.port, settings, peers)


SERVICES: dict[str, Callable[[Path], AbstractContextManager[Service]]] = {
    "SFTP": sftp, "SMB": smb, "NFS": nfs, "S3": s3,
}  # fmt: skip


def musicfs_over(service: Service, port: int, base: Path) -> RemoteMusicFS:
    here = base / "musicfs"
    return RemoteMusicFS(
        [], here, base / "musicfs-cache", settings=service.settings(port), scanned=base / "musicfs-scanned"
    )


def _obscured(password: str) -> str:
    done = subprocess.run(["rclone", "obscure", password], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _link(library: Path, root: Path) -> None:
    """The library's files at `root`, too; where links are impossible, copies."""
    try:
        shutil.copytree(library, root, copy_function=os.link, dirs_exist_ok=True)
    except (OSError, shutil.Error):
        shutil.copytree(library, root, dirs_exist_ok=True)
