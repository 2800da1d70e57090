"""What a reload says of the settings that can't change while mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicfs.app.current_config import CurrentConfig
from musicfs.app.live_config import _FIXED, ConfigSource, LiveConfig, differences
from musicfs.config.load import load_config
from musicfs.config.models import Config

HOOK = {"id": "a", "url": "http://h", "events": ["CacheStopped"]}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"control": {"listen": "127.0.0.1:1"}}, "[control]"),
        ({"log": {"level": "debug"}}, "[log]"),
        ({"webhooks": [HOOK]}, "[[webhooks]]"),
        ({"mount": {"allow_other": True}, "cache_dir": "/y"}, "cache_dir, [mount]"),
    ],
)
def test_a_setting_that_stays_as_it_is_is_named(changed: dict[str, object], named: str) -> None:
    before = Config(cache_dir=Path("/x"))
    after = Config.model_validate({"cache_dir": "/x"} | changed)
    assert differences(before, after) == [
        f"These settings can't change while mounted, so they stay as they are: {named}; unmount and"
        " mount again to apply them."
    ]


@pytest.mark.parametrize(("before", "links"), [(True, "inside"), (False, "all")])
async def test_a_reload_follows_links_as_the_mount_is_and_not_as_the_next_one_will_be(
    tmp_path: Path, before: bool, links: str
) -> None:
    """Else a line that takes effect at the next mount would show other users what lies outside, at once."""
    file = tmp_path / "musicfs.toml"
    origin = '[[origins]]\nid = "a"\norigin_type = "local"\npath = "/a"\n'
    file.write_text(origin + f"[mount]\nallow_other = {str(before).lower()}\n")
    applied: list[Config] = []

    async def apply(config: Config) -> None:
        applied.append(config)

    source = ConfigSource(file, {}, lambda path, overrides: load_config(path, overrides=overrides))
    running = load_config(file).config
    live_config = LiveConfig(CurrentConfig(running), apply, source)
    file.write_text(origin + f"[mount]\nallow_other = {str(not before).lower()}\n")
    assert "[mount]" in (await live_config.reload())[0]
    assert [config.origins[0].settings["links"] for config in applied] == [links]
    told = await live_config.add({"id": "b", "origin_type": "local", "path": "/b"})
    assert "Origin 'b' is added" in told[0]
    assert [origin.settings["links"] for origin in applied[-1].origins] == [links, links]


def test_every_setting_either_changes_or_is_said_to_stay() -> None:
    """Every section either takes effect in `ConfigApplier.apply` or is one that can't change."""
    assert {"origins", "health", "retry", *_FIXED} == set(Config.model_fields)
