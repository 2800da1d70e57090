"""Names the environment variables of secrets, and finds names that would mean two secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from musicfs.config.sources import SECRET_KEYS

_KEYS = tuple(sorted(SECRET_KEYS - {"read_token"}))  # of origins and webhooks, and of the kinds of plugins


def variable_of(id: str, key: str) -> str:
    """Returns the environment variable of a secret: ("my-nas", "password") is MUSICFS_MY_NAS_PASSWORD."""
    return f"MUSICFS_{re.sub('[^A-Z0-9]', '_', id.upper())}_{key.upper()}"


def collision(id: str, taken: Iterable[str], settings: Collection[str]) -> str:
    """Returns why an origin or a webhook can't have this id: it would share the variable of a secret; "" if it can.

    Args:
        id: The id.
        taken: Those of all other origins and webhooks.
        settings: The variables of settings, such as MUSICFS_CONTROL_TOKEN.
    """
    variables = {variable_of(id, key) for key in _KEYS}
    if shared := sorted(variables & set(settings)):
        return f"The id {id!r} can't be used: {shared[0]} is the variable of a setting; choose another id."
    for other in taken:
        if shared := sorted(variables & {variable_of(other, key) for key in _KEYS}):
            its = f"{shared[0]} would hold a secret of it and of {other!r}"
            return f"The id {id!r} can't be used: {its}; choose another id."
    return ""
