"""Where the demo's music lies: a folder, a server that is reached by SSH, a bucket. The servers are the tests' own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.support.servers.process import HOST, Server
from tests.support.servers.sshd import Sshd
from tests.support.servers.swift import ACCESS_KEY_ID, ROOT, SECRET_ACCESS_KEY, Swift

from demo.stage import DemoError, Interrupts, Stage

PROGRAMS = ("sshd", "ssh-keygen", "memcached")
SWIFT = ROOT / ".venv-swift/.installed"


class Places:
    """nas: OpenSSH's sshd over a folder. cloud: OpenStack Swift, which speaks S3. laptop: a plain folder.

    folder: where all of it is kept. The servers' own files are hidden there.
    """

    def __init__(self, folder: Path) -> None:
        self.laptop = folder / "laptop"
        self._nas_disk, self._uploads = folder / ".nas/music", folder / ".uploads"
        for made in (self.laptop, self._nas_disk, self._uploads, folder / ".nas/sshd", folder / ".cloud"):
            made.mkdir(parents=True)
        self._nas = Sshd(folder / ".nas/sshd")
        self._cloud = Swift(folder / ".cloud")
        self._bucket = ""

    @property
    def folders(self) -> Mapping[str, Path]:
        """What is put there before `start` is at the place of that name."""
        return {"nas": self._nas_disk, "cloud": self._uploads, "laptop": self.laptop}

    def start(self) -> None:
        self._nas.__enter__()
        self._cloud.__enter__()
        self._bucket = self._cloud.make_bucket()
        for file in self._uploads.rglob("*.*"):
            self._cloud.put(self._bucket, str(file.relative_to(self._uploads)), file.read_bytes())

    def end(self) -> None:
        """Also of what was not started, or only half."""
        self._cloud.__exit__()
        self._nas.__exit__()

    def server(self, name: str) -> Server:
        """The process that answers for the NAS or the cloud: to be killed, and started again."""
        return {"nas": self._nas, "cloud": self._cloud.front}[name]

    def configuration(self) -> str:
        """Of MusicFS, without the secrets; the NAS first, so that it is preferred."""
        nas = {
            "host": HOST, "port": self._nas.port, "path": str(self._nas_disk), "user": self._nas.user,
            "key_file": str(self._nas.key), "known_hosts": str(self._nas.known_hosts),
        }  # fmt: skip
        cloud = {"bucket": self._bucket, "endpoint": self._cloud.url}
        laptop = {"path": str(self.laptop)}
        places: list[tuple[str, str, Mapping[str, object]]]
        places = [("nas", "sftp", nas), ("cloud", "s3", cloud), ("laptop", "local", laptop)]
        return "\n".join(
            "\n".join(["[[origins]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""])
            for table in ({"id": id, "origin_type": kind, "priority": number, **settings}
                          for number, (id, kind, settings) in enumerate(places, 1))
        )  # fmt: skip

    @property
    def secrets(self) -> Mapping[str, str]:
        """The environment that holds them."""
        return {
            "MUSICFS_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "MUSICFS_CLOUD_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }


class DemoStage(Stage):
    """The demo's folder with all three places."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        super().__init__(folder, interrupts)
        self.config = folder / "musicfs.toml"
        self.places = Places(folder)
        self._environ |= self.places.secrets

    def open_places(self) -> None:
        """Starts their servers, and writes the configuration that names them."""
        with self.uninterrupted():
            try:
                self.places.start()
            except AssertionError as error:  # the tests' servers fail like this
                raise DemoError(f"A server can't be started: {error}") from error
        self.config.write_text(self.places.configuration())

    def end_places(self) -> None:
        self.places.end()

    def lose(self, name: str) -> int:
        """Kills the processes behind a place, and those only; returns the number of the first."""
        server = self.places.server(name)
        pid = server.pid
        with self.uninterrupted():
            server.kill()
        return pid

    def bring_back(self, name: str) -> None:
        with self.uninterrupted():
            self.places.server(name).start()
