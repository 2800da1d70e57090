"""What a refused request means: the sentences for the user, and whether to ask again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId

_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired")
_REMEDIES = {
    "SignatureDoesNotMatch": "the secret key is wrong, or a proxy on the way changes the host or the path",
    "InvalidAccessKeyId": "the access key is not known there",
    "AccessDenied": "AccessDenied: the access key may not do that; is it a bucket for which the requester pays?",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_WANTS_TLS = (b"sent to HTTPS port", b"HTTP request to an HTTPS server", b"to an SSL-enabled server port")
_BUSY = (429, 500, 502, 503, 504)
_MAX_WAIT = 30.0
_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,80})</Code>")
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")


def error_code(body: bytes) -> str:
    """Returns the code of an error's answer, such as NoSuchKey, or "". It is quick for any body and needs no thread."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def is_of_access(status: int, body: bytes) -> bool:
    """Whether the credentials were refused."""
    return status in (401, 403) or error_code(body) in _EXPIRED


def wait_of(status: int, headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that a busy server wants to be left alone, as far as it says so, else 0; None: it is not
    busy."""
    if status not in _BUSY:
        return None
    said = headers.get("retry-after", "")
    return min(float(said), _MAX_WAIT) if re.fullmatch("[0-9]{1,6}", said) else 0.0


def refusal(
    origin: OriginId, bucket: str, what: str, status: int, headers: Mapping[str, str], body: bytes
) -> OriginFailed:
    """Returns the failure of the origin that a status other than success means. what: the sentence's subject."""
    code = error_code(body)
    if is_of_access(status, body):
        return OriginFailed(origin, OriginFault.DENIED, f"{what}: {_REMEDIES.get(code, code) or status}")
    if status == 400 and any(sign in body for sign in _WANTS_TLS):
        return OriginFailed(origin, OriginFault.UNREACHABLE, f"{what}: the server wants https:// in the endpoint")
    in_body = _REGION.search(body)
    region = headers.get("x-amz-bucket-region") or (in_body[1].decode() if in_body else "")
    if status in (301, 307, 308, 400) and region:
        return OriginFailed(origin, OriginFault.UNREACHABLE, f"{what}: set its region to {region!r}")
    if status in (301, 302, 303, 307, 308):
        detail = (
            f"{what}: HTTP {status} leads elsewhere; is the endpoint right, and is there a sign-in page on the way?"
        )
        return OriginFailed(origin, OriginFault.UNREACHABLE, detail)
    if status == 404:
        return OriginFailed(origin, OriginFault.UNREACHABLE, f"there is no bucket {bucket!r}")
    wait = wait_of(status, headers)
    return OriginFailed(origin, OriginFault.IO, f"{what}: HTTP {status} {code}".rstrip(), busy_secs=wait)
