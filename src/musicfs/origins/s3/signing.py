"""Signing requests as S3 wants it: "AWS Signature Version 4" (docs.aws.amazon.com, "Authenticating Requests")."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from pydantic import SecretStr

DEFAULT_REGION = "us-east-1"
_NO_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with, and for which region. expires: seconds since the epoch; None: never."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None
    expires: float | None = None
    region: str = DEFAULT_REGION


def escaped_path(path: str) -> str:
    """Any path as the protocol and the signature write it: every byte but letters, digits and "-._~/" as %XX."""
    return quote(path.encode(), safe="/-._~")


def escaped_query(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-._~')}={quote(query[name], safe='-._~')}" for name in sorted(query))


def signed(method: str, path: str, query: str, headers: Mapping[str, str], keys: Keys, now: datetime) -> dict[str, str]:
    """`headers`, of which "host" must be one, and those that sign them all for a request without a body.

    path, query: already escaped. Names of headers are in lower case. now: in UTC.
    """
    time = now.strftime("%Y%m%dT%H%M%SZ")
    complete = {**headers, "x-amz-content-sha256": _NO_BODY, "x-amz-date": time}
    if keys.session_token is not None:
        complete["x-amz-security-token"] = keys.session_token.get_secret_value()
    names = ";".join(sorted(complete))
    lines = "".join(f"{name}:{complete[name].strip()}\n" for name in sorted(complete))
    request = "\n".join([method, path, query, lines, names, _NO_BODY])
    scope = f"{time[:8]}/{keys.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{keys.secret_access_key.get_secret_value()}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    complete["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    return complete
