"""The Music Player Daemon over a mount, run by the user who mounts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mounting import PATIENCE, Place, eventually


@contextmanager
def mpd(here: Place, music: Path, folder: Path) -> Iterator[Path]:
    """Runs over `music`, with its files in `folder`; yields its socket."""
    config, socket = folder / "mpd.conf", folder / "mpd.sock"
    text = f"""
        music_directory "{music}"
        playlist_directory "{folder}"
        db_file "{folder}/db"
        state_file "{folder}/state"
        bind_to_address "{socket}"
        auto_update "no"
        audio_output {{
            type "null"
            name "none"
        }}
    """
    here.call(config.write_text, text)
    command = here.who.command(here.environ, "mpd", "--no-daemon", "--stderr", str(config))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: here.call(socket.exists) or process.poll() is not None, "the socket of mpd")
            yield socket
        finally:
            here.signal(process.pid, 15)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                here.signal(process.pid, 9)
