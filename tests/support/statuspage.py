"""`musicfs page` as a process, and a browser that is let in by its code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.browser import Tab


@dataclass(frozen=True)
class StatusPage:
    """What it has printed. url: its address; code: what a browser without a token is asked for."""

    url: str
    code: str

    async def enter(self, tab: Tab) -> None:
        """Opens the page in a browser that has no token, and types the code."""
        await tab.open(self.url)
        await tab.shows("document.querySelector('#token-form')?.hidden === false")
        await self.type_code(tab, self.code)

    async def type_code(self, tab: Tab, code: str) -> None:
        await tab.evaluate("document.querySelector('#token').focus()")
        await tab.call("Input.insertText", text=code)
        await tab.press("Enter")


@asynccontextmanager
async def status_page(
    mount_point: str | Path, *options: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[StatusPage]:
    """environ: what is different in the environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "musicfs", "page", str(mount_point), *options,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **(environ or {})},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        code = (await process.stdout.readline()).decode().strip().removeprefix("Code: ")
        yield StatusPage(url, code)
    finally:
        process.terminate()
        await process.wait()
