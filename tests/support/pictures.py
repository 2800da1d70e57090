"""Takes the pictures of the status page that the documentation shows: `scripts/pictures`, five minutes.

Three places with music, of which one goes away twice while two listeners play.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from demo.audio import ALBUMS, Album, make_album
from demo.stage import Interrupts

from tests.support.browser import Tab, browser
from tests.support.nasstage import NasStage as Stage
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, sshd
from tests.support.statuspage import status_page

IMAGES = Path(__file__).parents[2] / "docs/images"
_MORE = (
    Album("Ines Okafor", "Small Hours", 2018, "flac", ("Kettle", "Streetlight", "First Tram"), on=("nas",)),
    Album("Marble Hall", "Stairwell Songs", 2023, "flac", ("Landing", "Banister", "Skylight"), on=("nas",)),
    Album("The Paper Lanterns", "Day Return", 2024, "flac", ("Platform", "Window Seat"), on=("laptop",)),
)
_CONFIG = """
mount_point = "{music}"
[cache]
content_cache_gb = 0.05
[[origins]]
id = "nas"
origin_type = "local"
path = "{nas}"
priority = 1
[[origins]]
id = "laptop"
origin_type = "local"
path = "{laptop}"
priority = 2
[[origins]]
id = "attic"
origin_type = "sftp"
host = "{host}"
port = {port}
user = "{user}"
path = "{attic}"
key_file = "{key}"
known_hosts = "{known_hosts}"
priority = 3
"""
_MAX = 290.0
_AWAY = ((95.0, 125.0), (265.0, None))
_PIECE = 32 * 1024


class Listener(threading.Thread):
    """Plays tracks one after the other, until it must stop."""

    def __init__(self, tracks: list[Path], pause: float) -> None:
        super().__init__(daemon=True)
        self._tracks = cycle(tracks)
        self._pause = pause
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            with next(self._tracks).open("rb", buffering=0) as file:
                while not self.stop.wait(self._pause) and file.read(_PIECE):
                    pass


def main() -> None:
    interrupts = Interrupts()
    interrupts.install()
    with sshd() as server, Stage.set_up(interrupts) as stage:
        attic = server.home / "attic"  # where its account may look
        for number, album in enumerate((*ALBUMS, *_MORE)):
            places = {"nas": stage.nas_disk, "cloud": stage.nas_disk, "laptop": stage.laptop}
            make_album(album, number, places)
        shutil.copytree(stage.nas_disk, attic)
        stage.bring_nas()
        config = stage.folder / "musicfs.toml"
        config.write_text(_config(stage, server, attic))
        stage.mount("--config", str(config))
        began = time.monotonic()
        stage.wait_for(
            lambda: all(o["scan"]["last"] for o in stage.ask("status", str(stage.music))["origins"]), "no scan ended"
        )
        tracks = sorted(path for path in stage.music.rglob("*") if path.suffix in (".flac", ".opus", ".mp3"))
        listeners = [Listener(tracks, 0.35), Listener(tracks[::-1], 0.5)]
        for listener in listeners:
            listener.start()
        try:
            _come_and_go(stage, began)
            asyncio.run(_take(stage))
        finally:
            for listener in listeners:
                listener.stop.set()
                listener.join(10)


def _config(stage: Stage, server: Sshd, attic: Path) -> str:
    return _CONFIG.format(
        music=stage.music, nas=stage.nas, laptop=stage.laptop, attic=attic, host=HOST, port=server.port,
        user=server.user, key=server.key, known_hosts=server.known_hosts,
    )  # fmt: skip


def _come_and_go(stage: Stage, began: float) -> None:
    for away, back in _AWAY:
        _until(began + away)
        stage.lose_nas()
        if back is not None:
            _until(began + back)
            stage.clear_nas()
            stage.bring_nas()
    _until(began + _MAX - 10)


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


async def _take(stage: Stage) -> None:
    async with status_page(stage.music, "--no-browser") as page, browser() as tab:
        await tab.size(1200, 900)
        await page.enter(tab)
        await tab.shows("document.querySelectorAll('#events li').length > 2")
        await tab.evaluate("document.querySelector('details').open = true")
        await _picture(tab, "page-light.png", 1200)
        await tab.prefer(prefers_color_scheme="dark")
        await _picture(tab, "page-dark.png", 1200)
        await _picture(tab, "page-phone.png", 390, lambda height: 1000)


async def _picture(tab: Tab, name: str, width: int, cut: Callable[[int], int] = lambda height: height) -> None:
    await tab.size(width, 900)
    height = await tab.evaluate("document.documentElement.scrollHeight")
    await tab.size(width, cut(height))
    await asyncio.sleep(3)  # until everything is drawn again
    await asyncio.to_thread(_save, await tab.picture(), IMAGES / name)


def _save(picture: bytes, path: Path) -> None:
    """With 256 colours, which are nearly all that it has, and make it a third as large."""
    path.parent.mkdir(exist_ok=True)
    colours = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", "-", "-vf", colours, str(path)], input=picture, check=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
