"""Names of folders that do not depend on the way to them, for origin.KnowsItsFolder."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from musicfs.origin import FolderIdentity
from musicfs.system.mounts import Mounted, mounts

_NETWORK_KINDS = {"nfs": "nfs", "nfs4": "nfs", "cifs": "smb", "smb3": "smb", "fuse.sshfs": "sftp"}
"""The kinds of origin that reach what filesystems of these types show."""
_HOST_KEYS = Path("/etc/ssh")


def merged(identities: Iterable[FolderIdentity]) -> FolderIdentity:
    """Returns one folder with all of its names."""
    found = list(identities)
    return FolderIdentity(
        frozenset().union(*(each.root for each in found)), frozenset().union(*(each.above for each in found))
    )


def folder_on_server(server: str, path: str) -> FolderIdentity:
    """Names a folder by its path on a server.

    Args:
        server: What the server is called; the same on every way to it.
        path: Of the folder, without links.
    """
    full = PurePosixPath("/" + path.strip("/"))
    return FolderIdentity(frozenset((f"{server}:{full}",)), frozenset(f"{server}:{each}" for each in full.parents))


def folder_at_host(kind: str, host: str, path: str) -> FolderIdentity:
    """Names a folder by the addresses of its server, so that a mounted share and an origin at the same server compare.
    Blocks while it asks for the addresses; a host without one has no name."""
    return merged(folder_on_server(f"{kind}@{address}", path) for address in _addresses(host))


def _addresses(host: str) -> set[str]:
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()
    return {"loopback" if ipaddress.ip_address(each.partition("%")[0]).is_loopback else each for each in found}


def folder_here(path: str) -> FolderIdentity:
    """Names a folder of this machine by device and inode number, and one on a network filesystem also by its server.

    Blocks. Raises OSError when the folder is away.
    """
    real = Path(os.path.realpath(path))
    root, *above = (_numbers(each) for each in (real, *real.parents))
    return merged((FolderIdentity(frozenset((root,)), frozenset(above)), _shared(real)))


def _numbers(path: Path) -> str:
    about = path.stat()
    return f"disk:{about.st_dev}:{about.st_ino}"


def _shared(path: Path) -> FolderIdentity:
    """What the server calls a folder of a mounted network filesystem."""
    mount = max(
        (each for each in mounts() if path.is_relative_to(each.path)),
        key=lambda each: len(each.path.parts),
        default=Mounted("", Path("/"), "", ""),
    )
    kind = _NETWORK_KINDS.get(mount.type)
    if kind is None:
        return FolderIdentity()
    if kind == "smb":
        host, _, share = mount.source.strip("/").partition("/")
        share = share.lower()
    else:
        found = re.fullmatch(r"(?:[^@/]*@)?(\[[^]]*\]|[^:/]*):(.*)", mount.source)
        host, share = (found[1], found[2]) if found else ("", "")
    below = path.relative_to(mount.path).as_posix()
    return folder_at_host(kind, host.strip("[]"), f"{share}/{below.lower() if kind == 'smb' else below}")


def is_this_machine(public_key: bytes) -> bool:
    """Whether an SSH server's public key, as "ssh-ed25519 AAAA..." is the key of this machine. Blocks."""
    wanted = public_key.split()[:2]
    for file in _HOST_KEYS.glob("ssh_host_*_key.pub"):
        try:
            if file.read_bytes().split()[:2] == wanted:
                return True
        except OSError:
            continue
    return False
