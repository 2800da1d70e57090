"""A kind that is no part of the program, mounted by its URL."""

from __future__ import annotations

from tests.support.audio import make_audio
from tests.support.mounting import Place, eventually
from tests.support.playing import SHOWN, SONG
from tests.support.servers.nginx import PASSWORD, USER, Nginx
from tests.support.servers.process import HOST


def test_a_plugin_is_mounted_by_its_url(here: Place) -> None:
    python = [here.who.python, "-m", "musicfs"]
    here.environ["MUSICFS_CLOUD_PASSWORD"] = PASSWORD
    with Nginx() as server:
        song = make_audio(server.root / "music/song.wav", seconds=5, seed=1, tags=SONG)
        song.parent.chmod(0o755)
        url = f"webdav://{USER}@{HOST}:{server.port}/music"
        here.run(*python, "mount", "--origin", f"cloud={url}", "--cache-dir", here.cache_dir, here.mount_point)
        try:
            shown = here.mount_point / SHOWN
            eventually(lambda: here.call(shown.exists), "the song")
            assert here.call(shown.read_bytes) == song.read_bytes()
            told = here.run(*python, "status", here.mount_point).stdout
            assert "healthy" in told
            here.run(*python, "unmount", here.mount_point)
        finally:
            here.run("fusermount3", "-u", "-z", "-q", here.mount_point, check=False)  # if that has failed
