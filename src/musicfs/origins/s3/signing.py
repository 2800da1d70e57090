"""Signs requests with botocore, and escapes addresses as the signature requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials


class Signer:
    """Signs with one set of credentials, for one region. credentials: None to sign nothing."""

    def __init__(self, credentials: ReadOnlyCredentials | None, region: str) -> None:
        self.region = region
        self._credentials = credentials

    def signed(self, method: str, url: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Returns `headers` and those that sign them, for a request without a body. url: already escaped."""
        if self._credentials is None:
            return dict(headers)
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, url, dict(headers))
        S3SigV4Auth(self._credentials, "s3", self.region).add_auth(request)
        return dict(request.headers)

    def __repr__(self) -> str:
        return f"Signer({self.region!r})"  # without the credentials, whose repr shows them


def escaped_path(path: str) -> str:
    """Escapes a path as the protocol and the signature do: every byte but letters, digits and "-._~/" becomes %XX."""
    return quote(path.encode(), safe="/-._~")


def escaped_query(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-._~')}={quote(query[name], safe='-._~')}" for name in sorted(query))
