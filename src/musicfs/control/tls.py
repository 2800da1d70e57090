"""TLS for the control API's listener on the network."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from musicfs.config.models import ControlConfig
from musicfs.errors import UserError


def tls_of(config: ControlConfig) -> ssl.SSLContext | None:
    """Returns the context with the configured certificate; None: there is none. Blocks.

    Raises:
        UserError: The certificate or its key can't be used; the sentence names it and the remedy.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    _check(config.tls_cert, "tls_cert")
    if _check(config.tls_key, "tls_key") & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"other users can read the key {config.tls_key}; run `chmod 600 {config.tls_key}`")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password OpenSSL asks for a passphrase on the terminal; an empty one opens no key.
        context.load_cert_chain(config.tls_cert, config.tls_key, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"tls_cert {config.tls_cert} and tls_key {config.tls_key} can't be used ({reason}): name a certificate in"
            " PEM form, with its chain, and its key without a passphrase"
        ) from error
    return context


def _check(path: Path, key: str) -> int:
    """Returns the file's mode. Raises UserError when we can't read it."""
    try:
        with path.open("rb"):
            return path.stat().st_mode
    except OSError as error:
        raise UserError(f"{key} {path} can't be read ({error.strerror}): check the path and who may read it") from error
