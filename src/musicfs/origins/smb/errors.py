"""The failures of a share, and the translation of smbprotocol's and the system's exceptions."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr
from smbprotocol.exceptions import SMBAuthenticationError, SMBConnectionClosed, SMBException, SMBResponseException
from smbprotocol.header import NtStatus

from musicfs.errors import OriginFault

_NAMES = {value: name for name, value in vars(NtStatus).items() if name.startswith("STATUS_")}
_NAMES |= {0xC0000418: "STATUS_NTLM_BLOCKED (the server accepts Kerberos tickets alone)"}
_DENIED = frozenset(
    {
        NtStatus.STATUS_ACCESS_DENIED, NtStatus.STATUS_LOGON_FAILURE, NtStatus.STATUS_WRONG_PASSWORD,
        NtStatus.STATUS_PASSWORD_EXPIRED, NtStatus.STATUS_PRIVILEGE_NOT_HELD,
        0xC000006E, 0xC000006F, 0xC0000070, 0xC0000072, 0xC0000193, 0xC0000224, 0xC0000234,  # accounts out of use
    }
)  # fmt: skip


class ShareLost(Exception):
    """The connection failed; a new one may work."""

    def __init__(self, fault: OriginFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class StatusRefused(Exception):
    """The server works and refused a request. status: its NtStatus."""

    def __init__(self, status: int) -> None:
        super().__init__(_NAMES.get(status, f"status {status:#x}").removeprefix("STATUS_").replace("_", " ").lower())
        self.status = status


@dataclass(frozen=True, slots=True)
class Login:
    """A share and the user who logs in. user: None for a guest. password: None to use the user's Kerberos ticket."""

    host: str
    port: int
    share: str
    user: str | None
    password: SecretStr | None


def lost(login: Login, error: Exception) -> ShareLost:
    """Returns why a connection ended, or could not be made."""
    if isinstance(error, TimeoutError):
        return ShareLost(OriginFault.TIMEOUT, f"{login.host} did not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return ShareLost(OriginFault.REFUSED, f"{login.host}: nothing listens at port {login.port}")
    if isinstance(error, SMBResponseException):
        return _refused(login, error.status)
    if isinstance(error, SMBAuthenticationError):
        return ShareLost(OriginFault.DENIED, f"{login.host}: {error}")
    if isinstance(error, SMBException) and "authenticated as a guest" in str(error):
        who = repr(login.user) if login.user else "guests, unsigned"
        return ShareLost(OriginFault.DENIED, f"{login.host} does not know {who}")
    if isinstance(error, (OSError, SMBConnectionClosed)):
        return ShareLost(OriginFault.UNREACHABLE, f"{login.host}: {error}")
    return ShareLost(OriginFault.IO, f"{login.host}: the connection broke ({str(error) or type(error).__name__})")


def _refused(login: Login, status: int) -> ShareLost:
    why = StatusRefused(status)
    if status == NtStatus.STATUS_BAD_NETWORK_NAME:
        return ShareLost(OriginFault.UNREACHABLE, f"{login.host} has no share {login.share!r}")
    if status in _DENIED:
        who = repr(login.user) if login.user else "guests"
        return ShareLost(OriginFault.DENIED, f"{login.host} does not let {who} use {login.share!r}: {why}")
    return ShareLost(OriginFault.UNREACHABLE, f"{login.host} refused the connection: {why}")
