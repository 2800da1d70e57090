"""No secret is told to anybody, in no form, whatever goes right or wrong: real servers, a real mount, every log."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

import musicfs.control
from musicfs.cli.main import cli
from musicfs.config.kinds import open_origin
from musicfs.config.load import load_config, origin_from_argument
from musicfs.errors import ConfigError, OriginFailed, UsageError
from tests.support.audio import make_audio
from tests.support.mounting import Account, Place, account, eventually, session
from tests.support.playing import SHOWN, SONG
from tests.support.servers import nginx, samba
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, make_key, open_folder
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift

PASSPHRASE = "phrase of the key"
WRONG = {kind: f"mistaken {kind} secret" for kind in ("sftp", "smb", "s3", "webdav", "toml")}
HOOK = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK_ADDRESS = "secret-path-of-a-hook"
SECRETS = (
    HOOK,
    HOOK_ADDRESS,
    PASSPHRASE,
    samba.PASSWORD,
    SECRET_ACCESS_KEY,
    ACCESS_KEY_ID,
    nginx.PASSWORD,
    *WRONG.values(),
)
RIGHT = ("ssh", "share", "bucket", "dav")
VARIABLES = {
    "MUSICFS_BUCKET_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "MUSICFS_BUCKET_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "MUSICFS_BAD_BUCKET_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "MUSICFS_BAD_BUCKET_SECRET_ACCESS_KEY": WRONG["s3"],
    "MUSICFS_PHONE_SECRET": f"whsec_{HOOK}",
    "MUSICFS_DAV_PASSWORD": nginx.PASSWORD,
    "MUSICFS_BAD_DAV_PASSWORD": WRONG["webdav"],
}


def forms(secret: str) -> Iterator[bytes]:
    """As it might be written: plain, in a URL, in JSON, in HTTP's header, in hex, in SMB's UTF-16."""
    yield from (secret.encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode())
    for text in (secret, f"{nginx.USER}:{secret}"):
        yield base64.b64encode(text.encode()).rstrip(b"=")
        yield text.encode().hex().encode()
    yield secret.encode("utf-16-le")


class Told:
    """Everything that was told, by whom."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def note(self, by: str, text: str | bytes) -> None:
        said = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self._texts[by] = self._texts.get(by, b"") + said

    def __contains__(self, text: str) -> bool:
        return any(text.encode() in said for said in self._texts.values())

    def leaks(self) -> list[str]:
        return [
            f"{by} tells {secret!r} as {form!r}"
            for secret in SECRETS
            for form in forms(secret)
            for by, said in self._texts.items()
            if form in said
        ]


class Program:
    """`musicfs` as the user who mounts runs it; what it says is noted."""

    def __init__(self, here: Place, told: Told) -> None:
        self._here = here
        self._told = told

    def __call__(self, *arguments: str | Path) -> str:
        done = self._here.run(self._here.who.python, "-m", "musicfs", "--debug", *arguments, check=False)
        self._told.note(f"musicfs {' '.join(map(str, arguments[:2]))}", done.stdout + done.stderr)
        return done.stdout

    def origins(self) -> Mapping[str, dict[str, Any]]:
        status = json.loads(self("status", self._here.mount_point, "--json"))
        return {origin["id"]: origin for origin in status["origins"]}


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


@pytest.fixture
def tables(here: Place, swift: Swift) -> Iterator[list[dict[str, object]]]:
    """The same song at a server of each kind that knows secrets; and each once more, with a wrong one."""
    song = make_audio(here.origins / "song.wav", seconds=5, seed=1, tags=SONG).read_bytes()
    with ExitStack() as stack:
        home, music = stack.enter_context(open_folder()), stack.enter_context(open_folder())
        ssh = stack.enter_context(Sshd(home))
        smb, dav = stack.enter_context(samba.Samba()), stack.enter_context(nginx.Nginx())
        for folder in (music, smb.root, dav.root):
            (folder / "song.wav").write_bytes(song)
        bucket = swift.make_bucket()
        swift.put(bucket, "song.wav", song)
        make_key(home / "locked", PASSPHRASE)
        stack.enter_context(ssh.also_lets_in(home / "locked"))
        private(here, "key", (home / "locked").read_text())
        private(here, "known_hosts", ssh.known_hosts.read_text())
        private(here, "passphrase", PASSPHRASE)
        access = {"user": ssh.user, "key_file": "key", "known_hosts": "known_hosts"}
        sftp = {"origin_type": "sftp", "host": HOST, "port": ssh.port, "path": str(music), **access}
        share = {"origin_type": "smb", "host": HOST, "port": smb.port, "share": samba.SHARE, "user": smb.user}
        s3 = {"origin_type": "s3", "bucket": bucket, "endpoint": swift.url}
        webdav = {"origin_type": "webdav", "url": f"{dav.url}/", "user": nginx.USER}
        yield [
            {"id": "ssh", **sftp, "passphrase_file": "passphrase"},
            {"id": "share", **share, "password": samba.PASSWORD},
            {"id": "bucket", **s3},
            {"id": "dav", **webdav},
            {"id": "bad-ssh", **sftp, "passphrase": WRONG["sftp"]},
            {"id": "bad-share", **share, "password": WRONG["smb"]},
            {"id": "bad-bucket", **s3},
            {"id": "bad-dav", **webdav},
        ]


def private(here: Place, name: str, text: str) -> Path:
    path = here.user / name
    here.call(path.touch, 0o600)
    here.call(path.write_text, text)
    return path


def as_toml(here: Place, tables: list[dict[str, object]]) -> str:
    lines = [f"cache_dir = {json.dumps(str(here.cache_dir))}", f"mount_point = {json.dumps(str(here.mount_point))}"]
    for table in tables:
        lines += ["[[origins]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    hook = {"id": "phone", "url": f"http://127.0.0.1:1/{HOOK_ADDRESS}", "events": ["ScanFinished"]}
    lines += ["[[webhooks]]", *(f"{key} = {json.dumps(value)}" for key, value in hook.items())]
    return "\n".join(lines)


def routes(ids: list[str], shown: Path) -> list[str]:
    """What the control API answers to GET, and to those POSTs that only look."""
    folder = Path(musicfs.control.__file__).parent
    found = {path for file in folder.rglob("*.py") for path in re.findall(r'web\.get\(\s*"([^"]+)"', file.read_text())}
    paths = {path.replace("{id}", id) for path in found for id in ids}
    return sorted(f"{path}?path={quote(str(shown))}" for path in paths)


def ask(run: Path, path: str) -> bytes:
    """The answer of the only mount's API; of a stream, what comes until it pauses."""
    [address] = run.rglob("*.sock")
    said = b""
    with socket.socket(socket.AF_UNIX) as connection, suppress(TimeoutError):
        connection.settimeout(1)
        connection.connect(str(address))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while data := connection.recv(1 << 16):
            said += data
    return said


async def in_process(told: Told, file: Path) -> None:
    """What reprs, exceptions and their tracebacks say where somebody uses the package as a library."""
    config = load_config(file, environ=VARIABLES).config
    told.note("the configuration", f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}")
    for settings in config.origins:
        origin = open_origin(settings, populated=False)
        try:
            await origin.health()
        except OriginFailed as failed:
            told.note("an exception", "".join(traceback.format_exception(failed)))
        told.note("a driver", f"{settings!r} {origin!r} {vars(origin)}")
        await origin.aclose()


def mistakes(told: Told, folder: Path) -> None:
    """Secrets where they can't be used: in a URL, in a file that is not right."""
    secret = WRONG["toml"]
    for scheme in ("sftp", "smb", "webdav", "nfs", "s3", "ftp"):
        with pytest.raises(UsageError) as refused:
            origin_from_argument(f"{scheme}://me:{quote(secret)}@nas/music?password={quote(secret)}", [])
        told.note("a refused URL", "".join(traceback.format_exception(refused.value)))
    tables = (
        f'origin_type = "smb"\nhost = "h"\nshare = "s"\nuser = "u"\npassword = ["{secret}"]',
        f'origin_type = "smb"\nhost = "h"\nshare = "s/t"\nuser = "u"\npassword = "{secret}"',
        f'origin_type = "smb"\npath = "/mnt"\npassword = "{secret}"',
        f'origin_type = "sftp"\nhost = "h"\npath = "p"\npasword = "{secret}"',
        f'origin_type = "sftp"\nhost = "h"\npath = "p"\npassphrase = {{ of = "{secret}" }}',
        f'origin_type = "s3"\nbucket = "b"\nendpoint = "http://me:{secret}@nas"',
        f'origin_type = "s3"\nbucket = "b"\nsecret_access_key = "{secret}"\nsession_token = ["{secret}"]',
        f'origin_type = "webdav"\nurl = "http://me:{secret}@nas"',
        f'origin_type = "nowhere"\npassword = "{secret}"',
        f'origin_type = "smb"\npassword = "{secret}',
    )
    for number, table in enumerate(tables):
        file = folder / f"mistake-{number}.toml"
        file.write_text(f'[[origins]]\nid = "x"\n{table}')
        for json_too in ([], ["--json"]):
            told.note(
                "config check", CliRunner().invoke(cli, ["--debug", "config", "check", str(file), *json_too]).output
            )
        with pytest.raises(ConfigError) as failed:
            load_config(file)
        told.note("a refused configuration", "".join(traceback.format_exception(failed.value)))


async def test_no_secret_appears_in_any_output(
    here: Place, tables: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = Told()
    musicfs = Program(here, told)
    here.environ |= VARIABLES
    file = private(here, "musicfs.toml", as_toml(here, tables))
    mistakes(told, tmp_path)
    assert "password is written out" in musicfs("config", "check", file)
    musicfs("config", "check", file, "--json")
    musicfs("mount", "--config", file, "-vv")
    shown = here.mount_point / SHOWN
    try:
        eventually(lambda: here.call(shown.exists), "the song")
        eventually(lambda: all(musicfs.origins()[id]["scan"]["last"] for id in RIGHT), "the scans")
        for command in (["origin", "check"], ["origin", "list"], ["origin", "list", "--json"], ["status"], ["scan"],
                        ["why", shown], ["why", shown, "--json"], ["cache", "stats"], ["cache", "verify"]):  # fmt: skip
            musicfs(*command)
        assert {id: musicfs.origins()[id]["health"] for id in RIGHT} == dict.fromkeys(RIGHT, "healthy")
        here.call(shown.read_bytes)
        for path in routes([str(table["id"]) for table in tables], shown):
            told.note(f"GET {path}", here.call(ask, here.user / "run", path))
        for pid, line in session(json.loads(musicfs("status", "--json"))["pid"]).items():
            told.note(f"the command line of process {pid}", line)
        musicfs("unmount", here.mount_point)
    finally:
        here.run("fusermount3", "-u", "-z", "-q", here.mount_point, check=False)  # if that has failed
    for kept in here.cache_dir.rglob("*"):
        if kept.is_file():
            told.note(f"the file {kept.name}", kept.read_bytes())
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner)  # who else asks is refused
    await in_process(told, file)
    # That it was listened to where secrets are at hand:
    wrong = ("the secret key is wrong", f"the password of '{nginx.USER}' is wrong", "bad-share", "bad-ssh")
    for text in (
        "DEBUG musicfs",
        "webhook 'phone' at 127.0.0.1 did not accept a message",
        "DEBUG spnego",
        "HTTP/1.1 200 OK",
        "-m musicfs.library",
        "HealthChanged",
        *wrong,
    ):
        assert text in told, f"{text!r} is nowhere"
    assert told.leaks() == []
