"""Samba's smbd, serving a folder of its own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.support.servers.process import HOST, PATIENCE, Server, free_port

SHARE = "music"
PASSWORD = "correct horse battery"

_CONF = """\
[global]
    server role = standalone server
    smb ports = {port}
    interfaces = 127.0.0.1
    bind interfaces only = yes
    disable netbios = yes
    passdb backend = tdbsam:{state}/passdb.tdb
    private dir = {state}
    lock directory = {state}
    state directory = {state}
    cache directory = {state}
    pid directory = {state}
    ncalrpc dir = {state}/ncalrpc
    log file = {state}/log.smbd
    load printers = no
    printcap name = /dev/null
    disable spoolss = yes
    map to guest = Bad User
    guest account = {guest}
    server signing = auto
    mangled names = no
    {settings}
[{share}]
    path = {root}
    read only = yes
[open]
    path = {root}
    read only = yes
    guest only = yes
"""

# What an SMB 2.1 client says first. The port answers a little before smbd can serve.
_HELLO = (
    b"\xfeSMB\x40\0" + bytes(58)  # the header
    + b"\x24\0\x01\0\x01\0\0\0" + bytes(4) + b"musicfs-testing!" + bytes(8) + b"\x10\x02"
)  # fmt: skip


class Samba(Server):
    """smbd with the share `SHARE` for `user` with PASSWORD, and the same folder as "open" for guests.

    Files have to be readable by others: when the tests run as root, the user is not, so that modes count.
    settings: more lines for smb.conf's global section.
    """

    def __init__(self, *, settings: str = "") -> None:
        self.base = Path(tempfile.mkdtemp(prefix="musicfs-samba-"))
        self.base.chmod(0o755)  # unlike pytest's folders, which are closed to other users
        self.root = self.base / "root"
        self.user = _user()
        self._state = self.base / "state"
        self._conf = self.base / "smb.conf"
        self._settings = settings
        command = ["/usr/sbin/smbd", "-F", "--no-process-group", "-s", str(self._conf), "--debug-stdout"]
        super().__init__(command, free_port(), self.base / "smbd.out", ready=self._negotiates)

    def __enter__(self) -> Samba:
        super().__enter__()
        return self

    def start(self) -> None:
        if not self._conf.exists():
            self._prepare()
        super().start()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self.base, ignore_errors=True)

    def open_files(self) -> list[str]:
        """What clients have open now."""
        command = ["smbstatus", "-s", str(self._conf), "-L", "-j"]
        done = subprocess.run(command, text=True, check=True, capture_output=True, timeout=PATIENCE)
        return [each["filename"] for each in json.loads(done.stdout)["open_files"].values()]

    def _prepare(self) -> None:
        self.root.mkdir()
        (self._state / "ncalrpc").mkdir(parents=True)
        guest = "nobody" if os.geteuid() == 0 else self.user
        conf = _CONF.format(
            port=self.port, state=self._state, root=self.root, share=SHARE, guest=guest, settings=self._settings
        )
        self._conf.write_text(conf)
        command = ["pdbedit", "-s", str(self._conf), "-a", "-t", "-u", self.user]
        both = f"{PASSWORD}\n{PASSWORD}\n"
        subprocess.run(command, input=both, text=True, check=True, capture_output=True, timeout=PATIENCE)

    def _negotiates(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), 1) as probe:
                probe.settimeout(2)
                probe.sendall(len(_HELLO).to_bytes(4, "big") + _HELLO)
                return probe.recv(4) != b""
        except OSError:
            return False


def _user() -> str:
    """The user who runs the tests; an unprivileged account of the system if that is root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    return pwd.getpwnam("games").pw_name
