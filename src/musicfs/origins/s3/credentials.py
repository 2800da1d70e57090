"""The credentials that sign requests: from MusicFS's own sources, then from botocore's, as with all Amazon tools."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from json import JSONDecodeError
from typing import TYPE_CHECKING

from pydantic import SecretStr

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.errors import UserError
from musicfs.origins.s3.settings import S3Settings
from musicfs.origins.s3.signing import Signer
from musicfs.system.threads import WorkerThreads

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session

DEFAULT_REGION = "us-east-1"
_OWN = ("access_key_id", "secret_access_key", "session_token")


class CredentialChain:
    """The credentials of one origin: found when first needed, kept, and renewed when botocore says so."""

    def __init__(self, config: OriginConfig, settings: S3Settings) -> None:
        self._config = config
        self._settings = settings
        self._found: tuple[Credentials | None, str] | None = None
        self._finding = asyncio.Lock()

    async def get(self, threads: WorkerThreads) -> Signer:
        """Returns what signs requests now. threads: for finding and renewing, which blocks.

        Raises UserError when there are no credentials, OSError when their source does not answer.
        """
        async with self._finding:
            if self._found is None or _is_stale(self._found[0]):
                return await threads.run(self._signer)
            return _signer_of(*self._found)

    def authorities(self) -> ssl.SSLContext | None:
        """Returns what trusts the authorities of the settings, or of Amazon's, or else None. Blocks. Raises
        UserError."""
        from botocore.session import Session

        chosen = self._settings.ca_bundle or Session(profile=self._settings.profile).get_config_variable("ca_bundle")
        if (file := chosen or os.environ.get("REQUESTS_CA_BUNDLE")) is None:
            return None
        try:
            return ssl.create_default_context(cafile=str(file))
        except (OSError, ValueError) as error:
            raise UserError(f"the certificates in {file} can't be read: {error}") from None

    def forget(self) -> None:
        """Drops credentials that a server refused: the next call finds them again, perhaps renewed."""
        self._found = None

    def _signer(self) -> Signer:
        from botocore.exceptions import BotoCoreError, HTTPClientError

        # Its debug messages hold session tokens.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        try:
            found = self._found or self._find()
            signer = _signer_of(*found)
        except HTTPClientError as error:
            raise OSError(f"no credentials were issued: {type(error).__name__}") from None
        except JSONDecodeError:
            raise UserError("the access key can't be loaded: its credential_process prints no JSON") from None
        except (BotoCoreError, OSError, ValueError) as error:
            raise UserError(f"the access key can't be loaded: {' '.join(str(error).split())}") from None
        self._found = found
        return signer

    def _find(self) -> tuple[Credentials | None, str]:
        from botocore.session import Session

        session = Session(profile=self._settings.profile)
        credentials = None if self._settings.anonymous else self._own() or self._amazons(session)
        if credentials is None and not self._settings.anonymous:
            raise UserError(self._nothing_found())
        region = self._settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        return credentials, region or DEFAULT_REGION

    def _own(self) -> Credentials | None:
        from botocore.credentials import Credentials

        id, secret, token = (find_secret(self._config, key) for key in _OWN)
        if id is None and secret is None:
            return None
        if id is None or secret is None:
            lacking = "access_key_id" if id is None else "secret_access_key"
            raise UserError(f"half of the access key is missing: set {variable_of(self._config.id, lacking)}")
        return Credentials(_text(id), _text(secret), _text(token) if token else None)

    def _amazons(self, session: Session) -> Credentials | None:
        if self._settings.endpoint is not None:
            # Only Amazon's own machines can answer; elsewhere this would wait for seconds.
            session.get_component("credential_provider").remove("iam-role")
        found: Credentials | None = session.get_credentials()
        return found

    def _nothing_found(self) -> str:
        id, secret = (variable_of(self._config.id, key) for key in _OWN[:2])
        profile = self._settings.profile
        where = f"the profile {profile!r}" if profile else "~/.aws/credentials"
        return f"no access key was found: set {id} and {secret}, or put it into {where}"


def _text(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _signer_of(credentials: Credentials | None, region: str) -> Signer:
    """Returns what signs with the credentials, without the line ends that files and variables leave at them."""
    if credentials is None:
        return Signer(None, region)
    frozen = credentials.get_frozen_credentials()
    token = frozen.token.strip() if frozen.token else None
    bare = frozen._replace(access_key=frozen.access_key.strip(), secret_key=frozen.secret_key.strip(), token=token)
    return Signer(bare, region)


def _is_stale(credentials: Credentials | None) -> bool:
    from botocore.credentials import RefreshableCredentials

    return isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed()
