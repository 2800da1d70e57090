"""Where the keys that sign requests come from: MusicFS's own sources, then those that all of Amazon's tools know."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from musicfs.config import OriginConfig
from musicfs.errors import UserError
from musicfs.origins.s3.signing import DEFAULT_REGION, Keys
from musicfs.origins.threads import WorkerThreads
from musicfs.secrets import find_secret, variable_of

Ask = Callable[[str, str, Mapping[str, str]], Awaitable[bytes]]
"""Method, URL and headers to the body of the answer. Raises OSError within about a second when there is none."""

_RENEW_SECS = 300.0
_CONTAINER = "http://169.254.170.2"
_INSTANCE = "http://169.254.169.254"


class KeyChain:
    """The keys of one origin: looked up when first needed, kept until shortly before they expire.

    profile, region: to be used whatever the environment says. metadata: whether to ask the services of the machine
    itself, which only Amazon's machines have, by `ask`.
    """

    def __init__(
        self,
        config: OriginConfig,
        profile: str | None,
        region: str | None,
        metadata: bool,
        ask: Ask,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config
        self._profile = profile
        self._region = region
        self._metadata = metadata
        self._ask = ask
        self._environ = environ
        self._keys: Keys | None = None
        self._looking = asyncio.Lock()

    async def get(self, threads: WorkerThreads) -> Keys:
        """The keys. Raises UserError when there are none. threads: for the files and the keyring."""
        async with self._looking:
            keys = self._keys
            if keys is None or (keys.expires is not None and keys.expires < time.time() + _RENEW_SECS):
                keys = self._keys = await self._find(threads)
            return keys

    def forget(self) -> None:
        """They were refused: look again, for they may have been renewed."""
        self._keys = None

    async def _find(self, threads: WorkerThreads) -> Keys:
        keys = await threads.run(self._on_this_machine) or await self._of_the_machine()
        if keys is None:
            raise UserError(self._nothing_found())
        return replace(keys, region=await threads.run(self._find_region))

    def _find_region(self) -> str:
        variables = (self._environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        profile = profile_of(self._profile, self._environ).get("region")
        return self._region or next(filter(None, (*variables, profile)), DEFAULT_REGION)

    def _nothing_found(self) -> str:
        wanted = f"{self._variable('access_key_id')} and {self._variable('secret_access_key')}"
        where = f"the profile {self._profile!r}" if self._profile else "~/.aws/credentials"
        return f"no access key was found: set {wanted}, or put it into {where}"

    def _variable(self, key: str) -> str:
        return variable_of(self._config.id, key)

    def _on_this_machine(self) -> Keys | None:
        if (keys := self._own()) is not None:
            return keys
        if self._profile is None and (keys := _from_table(self._environ, str.upper)) is not None:
            return keys
        return _from_table(profile_of(self._profile, self._environ), str)

    def _own(self) -> Keys | None:
        found = {key: find_secret(self._config, key, self._environ) for key in _NAMES}
        id, secret, token = found.values()
        if id is None and secret is None:
            return None
        if id is None or secret is None:
            lacking = "access_key_id" if id is None else "secret_access_key"
            raise UserError(f"half of the access key is missing: set {self._variable(lacking)}")
        return Keys(id.get_secret_value(), secret, token)

    async def _of_the_machine(self) -> Keys | None:
        if not self._metadata:
            return None
        try:
            return await (self._of_the_container() if self._container() else self._of_the_instance())
        except (OSError, ValueError, KeyError):
            return None

    def _container(self) -> str:
        relative = self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        return _CONTAINER + relative if relative else self._environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")

    async def _of_the_container(self) -> Keys:
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        return _from_json(await self._ask("GET", self._container(), {"authorization": token} if token else {}))

    async def _of_the_instance(self) -> Keys | None:
        if self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        base = self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _INSTANCE).rstrip("/") + "/latest/"
        token = await self._ask("PUT", base + "api/token", {"x-aws-ec2-metadata-token-ttl-seconds": "21600"})
        headers = {"x-aws-ec2-metadata-token": token.decode()}
        roles = base + "meta-data/iam/security-credentials/"
        role = (await self._ask("GET", roles, headers)).decode().split("\n")[0]
        return _from_json(await self._ask("GET", roles + role, headers))


_NAMES = ("access_key_id", "secret_access_key", "session_token")


def _from_table(table: Mapping[str, str], spelt: Callable[[str], str]) -> Keys | None:
    id, secret, token = (table.get(spelt(f"aws_{name}")) for name in _NAMES)
    return Keys(id, SecretStr(secret), SecretStr(token) if token else None) if id and secret else None


def _from_json(body: bytes) -> Keys:
    found = json.loads(body)
    expires = datetime.fromisoformat(found["Expiration"]).timestamp() if found.get("Expiration") else None
    return Keys(found["AccessKeyId"], SecretStr(found["SecretAccessKey"]), SecretStr(found["Token"]), expires)


def profile_of(name: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What the files of Amazon's tools say about a profile: its keys, its region.

    name: None for the one that the environment names, else "default". Raises UserError when a profile that was named
    is not there, or when a file can't be understood.
    """
    wanted = name or environ.get("AWS_PROFILE")
    profile = wanted or "default"
    home = Path(environ.get("HOME") or os.path.expanduser("~")) / ".aws"  # noqa: PTH111 (environ may be another)
    config = _sections(environ.get("AWS_CONFIG_FILE") or home / "config")
    credentials = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials")
    tables = [config.get(f"profile {profile}"), config.get(profile), credentials.get(profile)]
    if wanted and not any(table is not None for table in tables):
        raise UserError(f"there is no profile {wanted!r} in {home}")
    return {key: value for table in tables if table for key, value in table.items()}


def _sections(file: Path | str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(default_section="")
    path = Path(file).expanduser()
    try:
        parser.read_string(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({type(error).__name__})") from None
    except configparser.Error:  # whose message would quote the file
        raise UserError(f"{path} is not written as Amazon's tools write it") from None
    return {name: dict(parser[name]) for name in parser.sections()}
