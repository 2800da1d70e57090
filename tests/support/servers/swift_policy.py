"""A filter for Swift's proxy that forbids some paths, as the policies of other stores can. Runs within Swift.

The file that the setting `denied` names has one path a line, "bucket/key" or "bucket/folder".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Policy:
    def __init__(self, app: Application, denied: Path) -> None:
        self._app = app
        self._denied = denied

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD") and self._is_denied(environ):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        return self._app(environ, start_response)

    def _is_denied(self, environ: Environ) -> bool:
        denied = self._denied.read_text().split("\n")
        _, _, _, bucket, key = (environ["PATH_INFO"] + "////").split("/", 4)
        key = key.rstrip("/") or parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]
        return any(f"{bucket}/{key}/".startswith(f"{path}/") for path in denied if path)


def factory(_: dict[str, str], denied: str, **__: str) -> Callable[[Application], Policy]:
    return lambda app: Policy(app, Path(denied))
