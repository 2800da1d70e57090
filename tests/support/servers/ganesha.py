"""NFS-Ganesha, a real NFS server in user space: one export, NFS version 3, on high ports, without rpcbind."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

from tests.support.servers.process import HOST, PATIENCE, Server, free_port

NFS_PROGRAM, MOUNT_PROGRAM = 100003, 100005

_CONFIG = """
NFS_CORE_PARAM {{
    Bind_addr = {host}; NFS_Port = {port}; MNT_Port = {mount_port};
    Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
    Plugins_Dir = {plugins}; fsid_device = true;
}}
NFS_KRB5 {{ Active_krb5 = false; }}
# The tests change files behind the server's back: it is to look each time.
MDCACHE {{ Dir_Chunk = 0; }}
EXPORT_DEFAULTS {{ SecType = sys; PrivilegedPort = {privileged}; Attr_Expiration_Time = 0; }}
EXPORT {{
    Export_Id = 1; Path = {root}; Pseudo = {root}; Access_Type = RO; Protocols = 3; Transports = TCP;
    Squash = {squash}; Anonymous_Uid = 65534; Anonymous_Gid = 65534;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

_SHIM = "int rpcb_set(void) { return 1; }\nint rpcb_unset(void) { return 1; }\n"
"""Version 3 insists on telling rpcbind of itself, which needs a system service: this says that it went well."""


class Ganesha(Server):
    """Exports `root`, and each folder below it, for reading; `folder` takes what the server needs.

    squash: "All_Squash" serves everyone as nobody, so that file modes count for the superuser too.
    """

    def __init__(
        self, root: Path, folder: Path, *, squash: str = "All_Squash", privileged: bool = False, mount_port: int = 0
    ) -> None:
        self.root = root
        self.mount_port = mount_port or free_port()
        port = free_port()
        config = folder / "ganesha.conf"
        settings = {"host": HOST, "port": port, "mount_port": self.mount_port, "root": root, "squash": squash}
        config.write_text(_CONFIG.format(**settings, privileged=str(privileged).lower(), plugins=_plugins()))
        Path("/run/ganesha").mkdir(exist_ok=True)
        super().__init__(
            ["/usr/bin/ganesha.nfsd", "-F", "-f", str(config), "-p", str(folder / "pid"), "-L", "STDERR"],
            port,
            folder / "ganesha.log",
            ready=lambda: answers(port, NFS_PROGRAM) and answers(self.mount_port, MOUNT_PROGRAM),
            environ=os.environ | {"LD_PRELOAD": str(_shim(folder))},
        )


def _plugins() -> Path:
    return next(Path("/usr/lib").glob("*/ganesha"))


def _shim(folder: Path) -> Path:
    library = folder / "rpcb_shim.so"
    if not library.exists():
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=_SHIM.encode(), check=True, timeout=PATIENCE)
    return library


def answers(port: int, program: int) -> bool:
    """Whether an RPC server at the port answers the call that does nothing, of version 3 of the program."""
    call = struct.pack(">10I", 1, 0, 2, program, 3, 0, 0, 0, 0, 0)
    try:
        with socket.create_connection((HOST, port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(struct.pack(">I", 1 << 31 | len(call)) + call)
            reply = connection.recv(64)
    except OSError:
        return False
    return len(reply) >= 28 and reply[24:28] == bytes(4)
