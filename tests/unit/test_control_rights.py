"""What a caller over TCP may not do, even with the full token; and that each change is written down."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from musicfs.app.live_config import ConfigSource, not_from_elsewhere
from musicfs.config.kinds import OriginKind
from musicfs.config.load import load_config
from musicfs.config.models import ControlConfig, OriginConfig
from musicfs.errors import UserError
from musicfs.logs import LogSettings, begin
from musicfs.model import OriginType
from tests.support.control import Running, local_origin, running_app
from tests.support.raw import exchange, get, status_of

TOKEN = "sixteen letters or more"
READ_TOKEN = "sixteen more letters"
PASSWORD = "correct horse battery staple"


@pytest.fixture
async def api() -> AsyncIterator[Running]:
    """One origin at a server, which is away, and one in a folder."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o600)
        (folder / "m.toml").write_text(
            f'[[origins]]\nid = "a"\norigin_type = "local"\npath = "{folder / "a"}"\n'
            '[[origins]]\nid = "nas-1"\norigin_type = "sftp"\nhost = "localhost"\nport = 1\npath = "/m"\n'
        )
        tokens = {"token": TOKEN, "read_token": READ_TOKEN}
        control = ControlConfig.model_validate({"listen": "127.0.0.1:0", **tokens})
        sftp = {"id": "nas-1", "origin_type": "sftp", "host": "localhost", "port": 1, "path": "/m"}
        origins = local_origin("a", folder / "a", 0), OriginConfig.model_validate(sftp)
        source = ConfigSource(folder / "m.toml", {}, lambda file, overrides: load_config(file, overrides=overrides))
        async with running_app(folder, *origins, control=control, source=source) as running:
            yield running


async def _tcp(api: Running, method: str, path: str, body: dict[str, Any], token: str = TOKEN) -> tuple[int, str]:
    assert api.server.address is not None
    host, _, port = api.server.address.rpartition(":")
    text = json.dumps(body)
    asked = get(path, f"Authorization: Bearer {token}", f"Content-Length: {len(text)}", method=method)
    answer = await exchange((host, int(port)), asked + text.encode())
    return status_of(answer), answer.partition(b"\r\n\r\n")[2].decode()


S3 = {"origin_type": "s3", "bucket": "b"}
ELSEWHERE = [
    S3 | {"endpoint": "http://127.0.0.1:9"},
    S3,
    S3 | {"region": "x.evil.example/"},
    {"origin_type": "sftp", "host": "evil.example", "path": "/m"},
    {"origin_type": "sftp", "host": "localhost", "path": "/m"},
    {"origin_type": "sftp", "host": "localhost", "port": 2, "path": "/m"},
    {"origin_type": "smb", "host": "localhost", "share": "m"},
    {"origin_type": "nfs", "host": "localhost", "export": "/m"},
]
FILES = [
    S3 | {"access_key_id_file": "{}/password", "secret_access_key_file": "{}/password"},
    {"origin_type": "sftp", "host": "localhost", "port": 1, "path": "/m", "password_file": "{}/password"},
    {"origin_type": "sftp", "host": "localhost", "port": 1, "path": "/m", "passphrase_file": "{}/password"},
    {"origin_type": "sftp", "host": "localhost", "port": 1, "path": "/m", "key_file": "{}/password"},
    {"origin_type": "sftp", "host": "localhost", "port": 1, "path": "/m", "known_hosts": "{}/password"},
    {"origin_type": "smb", "host": "localhost", "share": "m", "password_file": "{}/password"},
    {"origin_type": "smb", "path": "{}/b"},
    {"origin_type": "nfs", "path": "{}/b"},
    {"origin_type": "local", "path": "{}/b"},
]


@pytest.mark.parametrize("table", ELSEWHERE)
async def test_over_tcp_a_server_that_is_new_is_refused(api: Running, table: dict[str, Any]) -> None:
    status, said = await _tcp(api, "POST", "/origins", {"id": "x", **table})
    assert (status, "is new to the configuration" in said, "`musicfs origin add`" in said) == (409, True, True), said
    assert "new to" not in str(await api.post("/origins", {"id": "x", **table}))


@pytest.mark.parametrize("table", FILES)
async def test_over_tcp_no_file_or_folder_of_the_machine_is_taken(api: Running, table: dict[str, Any]) -> None:
    table = {key: value.format(api.folder) if isinstance(value, str) else value for key, value in table.items()}
    status, said = await _tcp(api, "POST", "/origins", {"id": "x", **table})
    assert (status, "not accepted over TCP" in said, "`musicfs origin add`" in said) == (409, True, True), said
    assert "x" not in [origin.id for origin in api.parts.config.origins]
    assert PASSWORD not in said
    await api.post("/origins", {"id": "x", **table})
    assert "x" in [origin.id for origin in api.parts.config.origins]


async def test_over_tcp_another_folder_of_a_server_that_is_known_may_be_added(api: Running) -> None:
    table = {"id": "x", "origin_type": "sftp", "host": "LOCALHOST", "port": 1, "path": "/other"}
    assert (await _tcp(api, "POST", "/origins", table))[0] == 200


def test_a_kind_that_does_not_name_its_servers_is_refused_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = OriginKind(OriginType("odd"), BaseModel, lambda config, populated: None, remote=True)  # type: ignore[arg-type]
    monkeypatch.setattr("musicfs.app.live_config.find_kind", lambda name: kind)
    config = OriginConfig.model_validate({"id": "x", "origin_type": "odd", "host": "nas"})
    assert "an origin of the kind odd is new" in not_from_elsewhere([config], config)


@pytest.mark.parametrize("id", ["nas_1", "NAS-1", "nas.1", "nas-1-session", "nas_1.session", "control", "Control"])
async def test_an_id_that_would_share_a_variable_of_a_secret_is_refused_everywhere(api: Running, id: str) -> None:
    table = {"id": id, "origin_type": "sftp", "host": "localhost", "port": 1, "path": "/other"}
    status, said = await _tcp(api, "POST", "/origins", table)
    assert (status, "choose another id" in said) == (409, True), said
    with pytest.raises(UserError, match=r"choose another id\.$"):
        await api.post("/origins", table)


async def test_each_change_is_one_line_that_says_who_what_and_what_came_of_it(
    api: Running, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    await api.post("/origins/a/priority", {"priority": 9})
    await _tcp(api, "POST", "/scan", {"origin": "a"})
    await _tcp(api, "POST", "/scan", {"origin": "a"}, READ_TOKEN)
    await _tcp(api, "POST", "/scan", {}, "wrong")
    await api.get("/status")
    await _tcp(api, "POST", "/origins", {"id": "x", "origin_type": "local", "path": "/x"})
    await _tcp(api, "DELETE", "/origins/no%0aINFO:%20forged%1b[31m", {})
    lines = [record.getMessage() for record in caplog.records if record.name == "musicfs.audit"]
    local = f"uid {os.getuid()} (process {os.getpid()}) over the Unix socket"
    reading, full = (f"127.0.0.1 with the {grade} token" for grade in ("read-only", "full"))
    assert lines[0] == f'{local}: POST "/origins/a/priority" priority=9: done'
    assert lines[1] == f'{full}: POST "/scan" origin="a": done'
    assert lines[2].startswith(f'{reading}: POST "/scan" origin="a": refused (403): "This token only reads')
    assert lines[3].startswith(f'{full}: POST "/origins" id="x" origin_type="local" path="/x": refused (409): "')
    assert lines[4].startswith(f'{full}: DELETE "/origins/no\\nINFO: forged\\u001b[31m": refused (409): "')
    assert len(lines) == 5
    assert not any(character < " " or character > "~" for line in lines for character in line)


async def test_no_secret_is_written_down(api: Running, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("password", "secret_access_key", "passwrod", "token"):
        await _tcp(
            api, "POST", "/origins", {"id": "x", "origin_type": "sftp", "host": "h", "path": "/p", key: PASSWORD}
        )
    assert "POST" in caplog.text
    assert PASSWORD not in caplog.text
    assert TOKEN not in caplog.text


def test_changes_are_written_whatever_the_level_of_the_log_is(capsys: pytest.CaptureFixture[str]) -> None:
    from musicfs.control.audit import audit_log

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        for handler in handlers:
            root.removeHandler(handler)
        begin(LogSettings(level=logging.ERROR))
        audit_log.info("someone: did something")
        assert "someone: did something" in capsys.readouterr().err
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


async def test_a_body_that_does_not_come_is_not_waited_for(api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicfs.control.responses.BODY_SECS", 0.05)
    asked = get("/scan", f"Authorization: Bearer {TOKEN}", "Content-Length: 10", method="POST")
    assert api.server.address is not None
    host, _, port = api.server.address.rpartition(":")
    for place in ((host, int(port)), api.client.socket):
        answer = await exchange(place, asked + b"{")
        assert status_of(answer) == 408
