"""What users hear of SSH servers that can't serve SFTP."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.origins.sftp.driver import SftpOrigin
from tests.support.servers.process import HOST


class Talker(asyncssh.SSHServerSession[str]):
    """A shell whose start-up file prints text."""

    def connection_made(self, chan: asyncssh.SSHServerChannel[str]) -> None:
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return True

    def session_started(self) -> None:
        self._channel.write("Welcome to this machine, it is a nice one\n")


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class TalkersDoor(Door):
    def session_requested(self) -> Talker:
        return Talker()


@pytest.mark.parametrize(
    ("door", "told"), [(TalkersDoor, "shell prints text before SFTP starts"), (Door, "enable `Subsystem sftp`")]
)
async def test_a_server_without_sftp_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: type[Door], told: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(door, HOST, 0, server_host_keys=[key])
    known = tmp_path / "known"
    known.write_text(f"[{HOST}]:{server.get_port()} {key.export_public_key().decode()}")
    table = {
        "id": "nas", "origin_type": "sftp", "host": HOST, "port": server.get_port(), "path": "/", "user": "me",
        "known_hosts": str(known),
    }  # fmt: skip
    origin = SftpOrigin(OriginConfig.model_validate(table))
    with pytest.raises(OriginFailed, match=told) as failed:
        await origin.health()
    assert failed.value.fault is OriginFault.UNREACHABLE
    await origin.aclose()
    server.close()
    await server.wait_closed()
