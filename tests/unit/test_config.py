"""Settings are read from three places, and everything that is wrong is told at once, with its remedy."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from musicfs.config import kinds
from musicfs.config.edit import ConfigFile
from musicfs.config.kinds import find_kind, kind_entry_points
from musicfs.config.load import LoadedConfig, check_paths, default_cache_dir, load_config, origin_from_argument
from musicfs.config.models import Config, HealthConfig, OriginConfig, WebhookConfig
from musicfs.errors import ConfigError, UsageError
from musicfs.model import OriginId, OriginType
from musicfs.origin import INTERFACE_VERSION

SAMPLE = """
mount_point = "/mnt/music"
cache_dir = "/home/user/.cache/musicfs"

[[origins]]
id = "local"
origin_type = "local"
priority = 1
path = "/mnt/nas/music"

[[origins]]
id = "backup"
origin_type = "s3"
priority = 2
bucket = "music-backup"
region = "us-east-1"
"""
ORIGIN = """
[[origins]]
id = "disk"
origin_type = "local"
path = "/disk"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "musicfs.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def problems(
    file: Path | None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> list[str]:
    """What is wrong, the file's path shortened to its name."""
    with pytest.raises(ConfigError) as raised:
        load_config(file, environ=environ or {}, overrides=overrides or {})
    return [problem.replace(f"{file}: ", "musicfs.toml: ") for problem in raised.value.problems]


def test_the_sample_configuration_parses_as_it_stands(write: Write) -> None:
    loaded = load_config(write(SAMPLE))
    local, backup = loaded.config.origins
    assert loaded.warnings == ()
    assert loaded.config.mount_point == Path("/mnt/music")
    assert loaded.config.cache_dir == Path("/home/user/.cache/musicfs")
    assert (local.id, local.origin_type, local.priority, local.enabled) == ("local", OriginType.LOCAL, 1, True)
    assert local.settings == {"path": Path("/mnt/nas/music"), "links": "all", "passthrough": False}
    assert (backup.origin_type, backup.metered, local.metered) == (OriginType.S3, True, False)
    assert isinstance(backup.origin_type, OriginType)
    said = {key: value for key, value in backup.settings.items() if value}
    assert said == {"bucket": "music-backup", "region": "us-east-1"}


def test_defaults_are_those_of_the_documentation(write: Write) -> None:
    """Every key of the full example is checked against the models: the page can't fall behind them."""
    page = (Path(__file__).parents[2] / "docs/CONFIGURATION.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    example = tomllib.loads(text)
    assert load_config(write(text)).warnings == ()
    config = Config(cache_dir=Path("/x"))
    for section in ("cache", "health", "tree", "retry", "mount", "log"):
        expected = getattr(config, section).model_dump(mode="json")
        assert example[section] == expected, section
    defaults = OriginConfig(id=OriginId("x"), origin_type=OriginType.LOCAL)
    origin = example["origins"][0]
    own = {"id", "origin_type", "path", "cache", "bandwidth_limit"}
    expected = defaults.model_dump(mode="json", exclude={"settings"})
    assert {key: expected[key] for key in origin if key not in own} == {
        key: value for key, value in origin.items() if key not in own
    }
    assert set(origin) == set(OriginConfig.model_fields) - {"settings"} | {"path"}
    assert set(example["webhooks"][0]) == set(WebhookConfig.model_fields) - {"secret"}
    assert set(example) == set(Config.model_fields)


FOLDERS = """
[[origins]]
id = "disk"
origin_type = "local"
path = "/disk"
[[origins]]
id = "nas"
origin_type = "nfs"
path = "/mnt/nas"
[[origins]]
id = "far"
origin_type = "nfs"
host = "nas"
export = "/music"
[[origins]]
id = "own"
origin_type = "smb"
path = "/mnt/share"
links = "none"
"""


@pytest.mark.parametrize(
    ("text", "overrides", "environ", "links"),
    [
        ("", {}, {}, "all"),
        ("[mount]\nallow_other = true\n", {}, {}, "inside"),
        ("", {"mount.allow_other": True}, {}, "inside"),
        ("", {}, {"MUSICFS_MOUNT_ALLOW_OTHER": "true"}, "inside"),
        ("[mount]\nallow_other = true\n", {"mount.allow_other": False}, {}, "all"),
    ],
)
def test_links_are_followed_out_of_an_origin_only_where_one_user_sees_the_mount(
    write: Write, text: str, overrides: Mapping[str, object], environ: Mapping[str, str], links: str
) -> None:
    config = load_config(write(FOLDERS + text), overrides=overrides, environ=environ).config
    assert [origin.settings["links"] for origin in config.origins] == [links, links, None, "none"]


def test_a_shared_mount_says_whose_files_no_other_user_may_read(write: Write) -> None:
    warning = "mount.allow_other is set, but only you may read the files of far, whose owners this machine"
    shared = FOLDERS + "[mount]\nallow_other = true\n"
    (told,) = load_config(write(shared)).warnings
    assert told.startswith(warning)
    assert load_config(write(shared + 'file_mode = "0400"\n')).warnings == ()
    assert load_config(write(FOLDERS)).warnings == ()


def test_a_wrong_links_setting_and_one_of_a_kind_without_links_are_told(write: Write) -> None:
    told = problems(write(FOLDERS.replace('"none"', '"some"').replace('host = "nas"', 'host = "nas"\nlinks = "all"')))
    assert told == [
        "musicfs.toml: origins[2]: links is for an export that is mounted;"
        " where MusicFS reads it, no link is followed.",
        'musicfs.toml: origins[3].links is "some": use one of all, inside, none.',
    ]


def test_thresholds_are_per_kind_and_local_ones_are_strict() -> None:
    health = HealthConfig.model_validate({"unhealthy_threshold": 4, "per_origin_thresholds": {"sftp": 7}})
    assert [health.threshold_for(kind) for kind in (OriginType.LOCAL, OriginType.S3, OriginType.SFTP)] == [1, 4, 7]
    strict = HealthConfig.model_validate({"per_origin_thresholds": {"local": 2}})
    assert strict.threshold_for(OriginType.LOCAL) == 2


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_defaults(write: Write) -> None:
    file = write(ORIGIN + "[health]\ncheck_interval_secs = 1\ntimeout_ms = 1\nunhealthy_threshold = 5\n")
    config = load_config(
        file,
        environ={"MUSICFS_HEALTH_CHECK_INTERVAL_SECS": "2", "MUSICFS_HEALTH_TIMEOUT_MS": "2"},
        overrides={"health.check_interval_secs": 3},
    ).config
    health = config.health
    assert (health.check_interval_secs, health.timeout_ms, health.unhealthy_threshold) == (3, 2, 5)
    assert config.retry.delays_ms == (100, 500, 2000)


def test_the_environment_can_name_the_file_and_set_lists_and_tables(write: Write) -> None:
    environ = {
        "MUSICFS_CONFIG": str(write(ORIGIN)),
        "MUSICFS_RETRY_DELAYS_MS": "[1, 2]",
        "MUSICFS_HEALTH_PER_ORIGIN_THRESHOLDS": "{ local = 2 }",
        "MUSICFS_CACHE_CONTENT_CACHE_GB": "0.5",
        "MUSICFS_MOUNT_ALLOW_OTHER": "true",
        "MUSICFS_MOUNT_POINT": "/elsewhere",
    }
    config = load_config(environ=environ).config
    assert config.retry.delays_ms == (1, 2)
    assert config.health.per_origin_thresholds == {"local": 2}
    assert config.cache.content_cache_gb == 0.5
    assert config.mount.allow_other is True
    assert config.mount_point == Path("/elsewhere")


def test_origins_of_the_command_line_replace_those_of_the_file(write: Write) -> None:
    config = load_config(write(ORIGIN), overrides={"origins": [origin_from_argument("/other/place", [])]}).config
    assert [(origin.id, origin.settings["path"]) for origin in config.origins] == [("place", Path("/other/place"))]


def test_an_unknown_variable_is_a_warning_and_a_secret_is_none(write: Write) -> None:
    environ = {"MUSICFS_CACHE_DIRR": "/x", "MUSICFS_NAS_PASSWORD": "p", "MUSICFS_S_SECRET_ACCESS_KEY": "k", "HOME": "/"}
    loaded = load_config(write(ORIGIN), environ=environ)
    assert loaded.warnings == (
        "MUSICFS_CACHE_DIRR is not a known variable and is ignored: did you mean MUSICFS_CACHE_DIR?",
    )


def test_relative_paths_start_at_the_files_folder_and_tildes_at_home(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = write('mount_point = "../mnt"\ncache_dir = "~/cache"\n' + ORIGIN.replace('"/disk"', '"music"'))
    config = load_config(file).config
    assert config.mount_point == tmp_path.parent / "mnt"
    assert config.cache_dir == Path("/home/me/cache")
    assert config.origins[0].settings["path"] == tmp_path / "music"


def test_relative_paths_of_the_command_line_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(
        overrides={"origins": [origin_from_argument("music", [])]}, environ={"MUSICFS_MOUNT_POINT": "mnt"}
    ).config
    assert config.mount_point == tmp_path / "mnt"
    assert config.origins[0].settings["path"] == tmp_path / "music"


def test_all_problems_are_told_at_once(write: Write) -> None:
    text = """
        cach_dir = "/x"
        [[origins]]
        id = "one"
        origin_type = "local"
        pth = "/x"
        [[origins]]
        id = "one"
        origin_type = "s3"
        priority = 300
        [[origins]]
        id = "spa ced"
        origin_type = "loca"
        pool_size = true
        [cache]
        content_cach_gb = 5
        metadata_cache_mb = "many"
        [retry]
        hedge_share = 2
    """
    assert sorted(problems(write(text), {"MUSICFS_HEALTH_TIMEOUT_MS": "soon"})) == sorted(
        [
            "musicfs.toml: cach_dir is not a known key: did you mean cache_dir?",
            "musicfs.toml: origins[0].path is missing: set it to the folder that holds the music.",
            "musicfs.toml: origins[0].pth is not a known key: did you mean path?",
            'musicfs.toml: origins[1].id is "one", as origins[0].id is: give each origin its own id.',
            "musicfs.toml: origins[1].bucket is missing: set it to the name of the bucket.",
            "musicfs.toml: origins[1].priority is 300: use a whole number from 0 to 255.",
            "musicfs.toml: origins[2].id is \"spa ced\": use 1 to 64 of the letters, the digits and '-', '_', '.'.",
            f'musicfs.toml: origins[2].origin_type is "loca": use one of {", ".join(sorted(kind_entry_points()))}.',
            "musicfs.toml: origins[2].pool_size is true: use a whole number from 1 to 256.",
            "musicfs.toml: cache.content_cach_gb is not a known key: did you mean content_cache_gb?",
            'musicfs.toml: cache.metadata_cache_mb is "many": use a whole number, at least 1.',
            "musicfs.toml: retry.hedge_share is 2: use a number from 0 to 1.",
            'MUSICFS_HEALTH_TIMEOUT_MS is "soon": use a whole number of milliseconds, at least 1.',
        ]
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "There is no music yet: name at least one origin with --origin PATH or [[origins]]."),
        ("origins = []", "There is no music yet: name at least one origin with --origin PATH or [[origins]]."),
        ("[origins]\nid = 'x'", 'musicfs.toml: origins is {"id": "x"}: use one [[origins]] table for each origin.'),
        ("[[origins]]\nid = 'x'", "musicfs.toml: origins[0].origin_type is missing: set it to the name of a kind"),
        ("cache = 5" + ORIGIN, "musicfs.toml: cache is 5: "),
        (ORIGIN + "[retry]\nhedge_min_ms = 400", "musicfs.toml: retry: hedge_min_ms (400) must not exceed"),
        (ORIGIN + "[retry]\ndelays_ms = [-1]", "musicfs.toml: retry.delays_ms[0] is -1: use a list of milliseconds"),
        (ORIGIN + "bandwidth_limit = 'fast'", 'musicfs.toml: origins[0].bandwidth_limit is "fast": use bytes per'),
        (ORIGIN + "ignore = ['a/', '../x']", "musicfs.toml: origins[0].ignore: '../x' is no pattern: it needs names"),
        (ORIGIN + "ignore = 'a/'", 'musicfs.toml: origins[0].ignore is "a/": use a list of patterns'),
        (ORIGIN + "[health]\ncheck_interval_secs = inf", "musicfs.toml: health.check_interval_secs is Infinity: use a"),
        (
            "mount_point = '~nobody-here/x'\n" + ORIGIN,
            'musicfs.toml: mount_point is "~nobody-here/x": there is no such',
        ),
        ("a = [1,\n b", "musicfs.toml: this is not valid TOML at line 2, column 2: invalid value."),
        ("a = [1,", "musicfs.toml: this is not valid TOML at line 1, the end of the file: invalid value."),
    ],
)
def test_one_problem_is_one_sentence(write: Write, text: str, problem: str) -> None:
    [told] = problems(write(text))
    assert told.startswith(problem)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    broken = tmp_path / "latin.toml"
    broken.write_bytes(b"# one\n# caf\xe9\n")
    assert problems(broken) == ["musicfs.toml: line 2 is not UTF-8: save the file in that encoding."]
    assert problems(tmp_path) == ["musicfs.toml: this is a folder: name the configuration file inside it."]
    [told] = problems(tmp_path / "none.toml")
    assert told.startswith("musicfs.toml: there is no such file: ")


def test_a_wrong_template_is_refused_with_the_fields_that_there_are(write: Write) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(ORIGIN), environ={"MUSICFS_TREE_TEMPLATE": "$albun/$title"})
    [problem] = raised.value.problems
    assert problem.startswith('MUSICFS_TREE_TEMPLATE is "$albun/$title": ')
    assert "$album" in problem


def test_secrets_in_a_file_are_accepted_warned_of_and_never_shown(write: Write) -> None:
    file = write('[[origins]]\nid = "my-nas"\norigin_type = "smb"\nhost = "nas"\nshare = "a"\npassword = "hunter2"\n')
    loaded = load_config(file)
    assert "hunter2" not in repr(loaded)
    assert loaded.config.origins[0].settings["password"].get_secret_value() == "hunter2"
    [warning] = loaded.warnings
    assert "origins[0].password" in warning
    assert "MUSICFS_MY_NAS_PASSWORD" in warning
    assert "hunter2" not in warning


def test_a_wrong_secret_is_told_without_its_value(write: Write) -> None:
    [told] = problems(write(ORIGIN + 'password = "hunter2"\n'))
    assert (
        told == "musicfs.toml: origins[0].password is not a known key: the keys here are " + told.partition("are ")[2]
    )
    assert "hunter2" not in told


def test_a_configuration_can_not_be_changed() -> None:
    config = Config(cache_dir=Path("/x"))
    with pytest.raises(ValidationError):
        config.mount_point = Path("/y")


@pytest.mark.parametrize(
    ("text", "limit"), [(2000, 2000), ("2MB/s", 2_000_000), ("1.5 MiB/s", 1_572_864), ("800k", 800_000), ("300", 300)]
)
def test_bandwidth_is_bytes_per_second_or_has_a_unit(text: object, limit: int) -> None:
    origin = OriginConfig.model_validate({"id": "a", "origin_type": "s3", "bandwidth_limit": text})
    assert origin.bandwidth_limit == limit


def test_missing_folders_of_enabled_origins_are_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    names = {"file": True, "folder": True, "gone": True, "off": False}
    tables = [
        {"id": name, "origin_type": "local", "path": tmp_path / name, "enabled": enabled}
        for name, enabled in names.items()
    ]
    loaded: LoadedConfig = load_config(overrides={"origins": tables})
    assert check_paths(loaded.config) == [
        f"origin 'file': path is {tmp_path}/file, which is not a folder: mount it, or correct the path.",
        f"origin 'gone': path is {tmp_path}/gone, which does not exist: mount it, or correct the path.",
    ]


@pytest.mark.parametrize(
    ("text", "taken", "expected"),
    [
        ("/disk/music", [], "music"),
        ("/nas/music", ["music"], "nas-music"),
        ("/nas/music/", ["music", "nas-music"], "music-2"),
        ("/nas/music", ["music", "nas-music", "music-2"], "music-3"),
        ("/", [], "origin"),
        ("/mnt/Söme Music!", [], "S-me-Music"),
        ("/mnt/.hidden", [], "hidden"),
        ("/mnt/" + "x" * 100, [], "x" * 64),
        ("nas=/volume1/music", [], "nas"),
        ("./a=b", [], "a-b"),
        ("/with=sign", [], "with-sign"),
    ],
)
def test_an_origin_of_the_command_line_gets_an_id_of_its_own(text: str, taken: list[str], expected: str) -> None:
    table = origin_from_argument(text, taken)
    origin = OriginConfig.model_validate(table)
    assert origin.id == expected
    assert origin.priority == len(taken) + 1


@pytest.mark.parametrize("text", ["", " ", "http://host", "nas=/x", "~nobody-here/x"])
def test_arguments_that_name_no_folder_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        origin_from_argument(text, ["nas"])


def test_a_kind_is_found_by_its_name_or_told_to_be_missing() -> None:
    assert find_kind("local").name == "local"
    assert find_kind("s3").name == "s3"
    with pytest.raises(UsageError, match="'gopher' is not installed: use one of local"):
        find_kind("gopher")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that can't be imported, before the kinds that can."""
    plugin = EntryPoint("tape", "no_such_module:KIND", "musicfs.origins")
    monkeypatch.setattr(kinds, "kind_entry_points", lambda: {"tape": plugin, **kind_entry_points()})


def test_a_broken_plugin_is_told_by_its_name_wherever_it_is_wanted(broken: None, write: Write) -> None:
    [told] = problems(write("[[origins]]\nid = 'x'\norigin_type = 'tape'"))
    assert "the kind 'tape' of the package no_such_module:KIND can't be loaded (ModuleNotFoundError: " in told
    with pytest.raises(UsageError, match="the kind 'tape' of the package"):
        find_kind("tape")
    with pytest.raises(UsageError, match="--origin tape://x: the kind 'tape' of the package"):
        origin_from_argument("tape://x", [])


def test_a_broken_plugin_does_not_disturb_other_kinds(broken: None) -> None:
    assert origin_from_argument("s3://bucket", [])["origin_type"] == "s3"


def _plugin(monkeypatch: pytest.MonkeyPatch, name: str, kind: object) -> None:
    """Installs a kind, for as long as the test runs."""
    module = ModuleType("musicfs_plugin_of_a_test")
    module.KIND = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plugin = EntryPoint(name, f"{module.__name__}:KIND", "musicfs.origins")
    monkeypatch.setattr(kinds, "kind_entry_points", lambda: {name: plugin})


def test_a_kind_for_a_newer_interface_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(find_kind("local"), interface=INTERFACE_VERSION + 1)
    _plugin(monkeypatch, "tape", newer)
    expected = f"needs version {INTERFACE_VERSION + 1} of the plugin interface, and this MusicFS has"
    with pytest.raises(UsageError, match=expected):
        find_kind("tape")


def test_an_entry_point_that_names_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _plugin(monkeypatch, "tape", object())
    with pytest.raises(UsageError, match="its entry point names a object, not an OriginKind"):
        find_kind("tape")


def test_each_mount_point_has_a_cache_folder_of_its_own() -> None:
    one, other = default_cache_dir(Path("/mnt/music")), default_cache_dir(Path("/home/music"))
    assert one.name.startswith("music-")
    assert len(one.name) == len("music-") + 8
    assert one != other
    assert one == default_cache_dir(Path("/mnt/../mnt/music/"))


# Who may write it


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("bits", [0o666, 0o777])
def test_a_file_that_others_may_write_is_refused_with_the_remedy(write: Write, above: bool, bits: int) -> None:
    file = write(SAMPLE)
    changed = file.parent if above else file
    changed.chmod(bits | 0o111 * above)
    (problem,) = problems(file)
    assert problem.startswith(f"{file.name}: it is not read, since another user could have written it: {changed} ")
    assert f"`chmod go-w {changed}`" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_refused_and_a_link_of_theirs(write: Write) -> None:
    file = write(SAMPLE)
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert load_config(link).config.origins
    os.chown(link, 65534, -1, follow_symlinks=False)
    (problem,) = problems(link)
    assert f"{link} belongs to the user nobody" in problem
    os.chown(file, 65534, -1)
    (problem,) = problems(file)
    assert f"{file} belongs to the user nobody" in problem
    with pytest.raises(ConfigError, match="belongs to the user nobody"):
        ConfigFile.read(file)


def test_the_switch_for_debuggers_is_no_setting_and_no_slip() -> None:
    overrides = {"origins": [{"id": "a", "origin_type": "local", "path": "/a"}]}
    assert load_config(overrides=overrides, environ={"MUSICFS_DUMPABLE": "1"}).warnings == ()


def _two(first: str, second: str, section: str = "origins") -> str:
    tables = {
        "origins": 'origin_type = "local"\npath = "/b"',
        "webhooks": 'url = "http://h"\nevents = ["CacheStopped"]',
    }
    return (
        f'[[origins]]\nid = "{first}"\norigin_type = "local"\npath = "/a"\n'
        f'[[{section}]]\nid = "{second}"\n{tables[section]}\n'
    )


@pytest.mark.parametrize("section", ["origins", "webhooks"])
@pytest.mark.parametrize(
    ("first", "second", "variable"),
    [
        ("nas-1", "nas_1", "MUSICFS_NAS_1_"),
        ("nas.1", "nas-1", "MUSICFS_NAS_1_"),
        ("NAS", "nas", "MUSICFS_NAS_"),
        ("nas", "nas-session", "MUSICFS_NAS_SESSION_TOKEN"),
        ("nas.session", "nas", "MUSICFS_NAS_SESSION_TOKEN"),
        ("nas", "control", "MUSICFS_CONTROL_TOKEN"),
        ("nas", "Control.read", "MUSICFS_CONTROL_READ_TOKEN"),
    ],
)
def test_ids_whose_secrets_would_share_a_variable_are_refused(
    write: Write, first: str, second: str, variable: str, section: str
) -> None:
    (problem,) = problems(write(_two(first, second, section)))
    assert f"{section}[{int(section == 'origins')}].id" in problem
    assert variable in problem
    assert problem.endswith("choose another id.")


@pytest.mark.parametrize("second", ["nas2", "nas-read", "nas-token", "password", "mount", "secret", "log"])
def test_other_ids_are_free(write: Write, second: str) -> None:
    for section in ("origins", "webhooks"):
        load_config(write(_two("nas", second, section)))


def test_the_ids_that_are_made_for_folders_share_no_variable() -> None:
    taken: list[str] = []
    for path in ("/a/my-music", "/b/my_music", "/c/my.music", "/control", "/d/control", "/MY music"):
        taken.append(str(origin_from_argument(path, taken)["id"]))
    tables = "".join(f'[[origins]]\nid = "{id}"\norigin_type = "local"\npath = "/a"\n' for id in taken)
    load_config(overrides={"origins": tomllib.loads(tables)["origins"]})
