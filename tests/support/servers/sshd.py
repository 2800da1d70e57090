"""OpenSSH's sshd over a folder, read-only, for SFTP alone; and the keys to it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers.process import HOST, PATIENCE, Server, free_port

_UNPRIVILEGED = ("nobody", "games", "daemon")
_CONFIG = """\
ListenAddress {host}
Port {port}
HostKey {home}/host_key
PidFile none
AuthorizedKeysFile {home}/authorized_keys
AllowUsers {user}
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxSessions 64
MaxStartups 64:30:128
PermitTTY no
AllowTcpForwarding no
LogLevel ERROR
Subsystem sftp internal-sftp -R
ForceCommand internal-sftp -R
"""


class Sshd(Server):
    """One that lets in `user`, who has `key`, and shows itself by the host key in `known_hosts`.

    home: an empty folder, for its keys, settings and log. user: an account bound by the modes of files, also where
    the superuser runs the tests; folders on the way to the music must be open to it. settings: lines of sshd_config
    that go before the others.
    """

    def __init__(self, home: Path, *, settings: str = "") -> None:
        self.home = home
        self._settings = settings
        self.user = _account()
        self.key = home / "key"
        self.known_hosts = home / "known_hosts"
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program is not None, "there is no sshd: run scripts/setup"
        command = [program, "-D", "-e", "-f", str(home / "config")]
        super().__init__(command, free_port(), home / "log", ready=self._greets)

    def __enter__(self) -> Sshd:
        self._prepare()
        super().__enter__()
        return self

    def known_as(self, port: int) -> Path:
        """A known_hosts file that has this server's key for another port, such as that of a proxy before it."""
        path = self.home / f"known_hosts-{port}"
        path.write_text(f"[{HOST}]:{port} " + (self.home / "host_key.pub").read_text())
        return path

    @contextmanager
    def also_lets_in(self, key: Path) -> Iterator[None]:
        """While it lasts, the key opens the door as well."""
        authorized = self.home / "authorized_keys"
        before = authorized.read_text()
        authorized.write_text(before + Path(f"{key}.pub").read_text())
        try:
            yield
        finally:
            authorized.write_text(before)

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it asks for this folder, and makes it on no account
        make_key(self.home / "host_key")
        make_key(self.key)
        shutil.copy(f"{self.key}.pub", self.home / "authorized_keys")
        (self.home / "authorized_keys").chmod(0o644)
        self.known_as(self.port).rename(self.known_hosts)
        config = _CONFIG.format(host=HOST, port=self.port, home=self.home, user=self.user)
        (self.home / "config").write_text(self._settings + config)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                return connection.recv(16).startswith(b"SSH-2.0")
        except OSError:
            return False


def _account() -> str:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def make_key(path: Path, passphrase: str = "") -> None:
    """A new key at `path`, its public half at `path`.pub."""
    run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", str(path)])


def run_tool(command: Sequence[str], **environ: str) -> None:
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, env=dict(os.environ) | environ)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts may enter, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="musicfs-sftp-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def sshd() -> Iterator[Sshd]:
    """A running one."""
    with open_folder() as home, Sshd(home) as server:
        yield server
