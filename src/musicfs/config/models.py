"""The settings of MusicFS: what each may be, and its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    field_serializer,
    model_validator,
)

from musicfs.config.ignore import checked_patterns
from musicfs.config.log_parts import is_part, logger_of
from musicfs.config.sources import Expected, hide_secrets
from musicfs.events import Event, EventsDropped
from musicfs.model import OriginId, OriginType

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def _number_not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004 (pydantic collects ValueErrors only)
    return value


def _origin_id(value: object) -> OriginId:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise ValueError("not an id")
    return OriginId(value)


def origin_type_of(value: object) -> OriginType:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", value):
        raise ValueError("not a kind")
    return OriginType(value)


def bytes_per_second(value: object) -> object:
    """Converts 2000000, "2000000", "2MB/s" or "1.5 MiB/s"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG]i?)?B?(?:/s)?", value.strip()) if isinstance(value, str) else None
    if not found:
        return _number_not_bool(value)
    number, unit = float(found[1]), found[2] or ""
    return int(
        number * (1024 if unit.endswith("i") else 1000) ** " kMG".index(unit[0].replace("K", "k") if unit else " ")
    )


_NotBool = BeforeValidator(_number_not_bool)
Bool = Annotated[bool, Expected("true or false")]
Count = Annotated[int, _NotBool, Ge(1), Expected("a whole number, at least 1")]
Milliseconds = Annotated[int, _NotBool, Ge(1), Expected("a whole number of milliseconds, at least 1")]
Seconds = Annotated[float, _NotBool, Gt(0), Le(10**9), Expected("a number of seconds above 0")]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CacheConfig(_Settings):
    """How much the caches may hold."""

    metadata_cache_mb: Count = 32
    content_cache_gb: Annotated[float, _NotBool, Ge(0), Expected("a number of gigabytes, at least 0")] = 10


class HealthConfig(_Settings):
    """When origins are probed and how many failures make one unhealthy."""

    check_interval_secs: Seconds = 30
    timeout_ms: Milliseconds = 5000
    unhealthy_threshold: Count = 3
    per_origin_thresholds: Annotated[
        Mapping[Annotated[OriginType, PlainValidator(origin_type_of)], Annotated[int, _NotBool, Ge(1)]],
        Expected("a table of kinds and whole numbers, at least 1, such as { local = 1, sftp = 5 }"),
    ] = Field(default_factory=dict)

    def threshold_for(self, kind: OriginType) -> int:
        """Consecutive failures after which an origin of this kind is unhealthy."""
        return self.per_origin_thresholds.get(kind, 1 if kind == OriginType.LOCAL else self.unhealthy_threshold)


class TreeConfig(_Settings):
    """The names of the virtual tree."""

    template: Annotated[str, Expected("a template in quotes")] = (
        "$albumartist/$album ($year) [$format_upper]/$track - $title.$format"
    )


class RetryConfig(_Settings):
    """How a read that failed or is late continues; federation/failover.py applies it.

    delays_ms separate rounds over all candidates; deadline_ms limits the fetch with all its rounds.
    """

    delays_ms: Annotated[
        tuple[Annotated[int, _NotBool, Ge(0)], ...], Expected("a list of milliseconds, such as [100, 500, 2000]")
    ] = (100, 500, 2000)
    deadline_ms: Milliseconds = 10000
    hedge_min_ms: Milliseconds = 50
    hedge_max_ms: Milliseconds = 300
    hedge_metered_ms: Milliseconds = 1000
    hedge_share: Annotated[float, _NotBool, Ge(0), Le(1), Expected("a number from 0 to 1")] = 0.2
    hedge_burst: Annotated[int, _NotBool, Ge(0), Expected("a whole number, at least 0")] = 3

    @model_validator(mode="after")
    def _in_order(self) -> RetryConfig:
        if self.hedge_min_ms > self.hedge_max_ms:
            raise ValueError(f"hedge_min_ms ({self.hedge_min_ms}) must not exceed hedge_max_ms ({self.hedge_max_ms})")
        return self


_READ_MODES = '"0400" for the user who mounts alone, "0440" for its group, too, or "0444" for all users'


def _read_mode(value: object) -> int:
    """Converts "0444", or 0o444 as TOML writes it: bits for reading, the owner's among them."""
    if isinstance(value, str) and re.fullmatch("(0o?)?[0-7]{3}", value.strip()):
        value = int(value.strip().removeprefix("0o"), 8)
    if not isinstance(value, int) or isinstance(value, bool) or value & 0o400 == 0 or value & ~0o444:
        raise ValueError("not a mode to read with")
    return value


class MountConfig(_Settings):
    """How the folder is mounted. file_mode: with allow_other, who may read files whose origin has no owners."""

    allow_other: Bool = False
    file_mode: Annotated[int, BeforeValidator(_read_mode), Expected(_READ_MODES)] = 0o400

    @field_serializer("file_mode")
    def _written(self, mode: int) -> str:
        return f"{mode:04o}"


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not an address")  # noqa: TRY004 (pydantic collects ValueErrors only)
    host_and_port(value)
    return value


def host_and_port(listen: str) -> tuple[str, int]:
    """Splits "127.0.0.1:8383" into ("127.0.0.1", 8383), "[::1]:8383" into ("::1", 8383). Raises ValueError."""
    host, _, port = listen.rpartition(":")
    address = ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    if (address.version == 6) != host.startswith("[") or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("not an address and a port")
    return str(address), int(port)


class ControlConfig(_Settings):
    """The address and port where the control API listens in addition to its Unix socket, and its tokens.

    token: allows everything; read_token: allows requests that change nothing. Each mount makes those that are not
    given; the full token must be given where other machines can connect. tls_cert, tls_key: files in PEM form; with
    them the API uses TLS.
    """

    listen: Annotated[
        Annotated[str, PlainValidator(_address)] | None,
        Expected('an address of this machine and a port, such as "127.0.0.1:8383"'),
    ] = None
    token: Annotated[
        Annotated[SecretStr, Field(min_length=16)] | None, Expected("a text of at least 16 characters")
    ] = None
    read_token: Annotated[
        Annotated[SecretStr, Field(min_length=16)] | None, Expected("a text of at least 16 characters")
    ] = None
    tls_cert: Annotated[Path | None, Expected("the path of a certificate")] = None
    tls_key: Annotated[Path | None, Expected("the path of the certificate's key")] = None

    @model_validator(mode="after")
    def _two_tokens_and_a_whole_certificate(self) -> ControlConfig:
        if self.token is not None and self.token == self.read_token:
            raise ValueError("token and read_token are the same: the one that only reads must be another")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both, or none")
        return self

    @model_validator(mode="after")
    def _token_where_others_can_ask(self) -> ControlConfig:
        if self.listen and self.token is None and not ip_address(host_and_port(self.listen)[0]).is_loopback:
            raise ValueError(
                f"listen is {self.listen}, where other machines can connect: set MUSICFS_CONTROL_TOKEN, too,"
                " or listen on 127.0.0.1"
            )
        return self


def _part(value: str) -> str:
    if not is_part(value):
        raise ValueError("not a part of MusicFS")
    return value


LogLevel = Literal["debug", "info", "warning", "error"]
_PARTS = 'a table of parts and levels, such as { "origins.sftp" = "debug", federation = "info" }'


class LogConfig(_Settings):
    """What is logged, and how. levels: of single parts, by the names in log_parts.py."""

    level: Annotated[LogLevel, Expected("one of debug, info, warning, error")] = "warning"
    format: Annotated[Literal["text", "json"], Expected("text or json")] = "text"
    levels: Annotated[Mapping[Annotated[str, AfterValidator(_part)], LogLevel], Expected(_PARTS)] = Field(
        default_factory=dict
    )

    def of_loggers(self) -> dict[str, LogLevel]:
        """The levels by the names of loggers, without the package's name."""
        named = ((logger_of(part), level) for part, level in self.levels.items())
        return {logger: level for logger, level in named if logger is not None}


def _http_url(value: SecretStr) -> SecretStr:
    url = urlsplit(value.get_secret_value())
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("not an address to send to")
    return value


_FORMER_EVENT_NAMES = {
    "VerificationProgress": "ScrubProgress",
    "RotFound": "ScrubMismatch",
    "VerificationFinished": "ScrubFinished",
}


def _event_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names, with those of an earlier version replaced by the present ones."""
    names = tuple(_FORMER_EVENT_NAMES.get(name, name) for name in value)
    if not names or not EVENT_NAMES.issuperset(names):
        raise ValueError("not all of them are events")
    return names


EVENT_NAMES = frozenset(kind.__name__ for kind in Event.__subclasses__()) - {EventsDropped.__name__}
_EVENTS = 'a list of names of docs/EVENTS.md, such as ["HealthChanged", "ReplicaQuarantined"]'


class WebhookConfig(_Settings):
    """A server that receives events. url: hidden, since anyone who knows it can often send there, too."""

    id: Annotated[str, PlainValidator(_origin_id), Expected("1 to 64 of the letters, the digits and '-', '_', '.'")]
    url: Annotated[SecretStr, AfterValidator(_http_url), Expected('an address such as "https://example.net/hook"')]
    events: Annotated[tuple[str, ...], AfterValidator(_event_names), Expected(_EVENTS)]
    secret: Annotated[SecretStr | None, Expected("a text")] = None
    secret_file: Annotated[Path | None, Expected("a path")] = None


_IN_FOLDERS = (OriginType.LOCAL, OriginType.NFS, OriginType.SMB)


class OriginConfig(_Settings):
    """One origin. Keys that are not among these fields belong to its kind and are in `settings`.

    cache: whether its bytes are kept on disk; None: the kind decides. bandwidth_limit: bytes per second, only of
    background work unless bandwidth_limit_all. ignore: patterns of what is not shown (config.ignore).
    """

    id: Annotated[
        OriginId, PlainValidator(_origin_id), Expected("1 to 64 of the letters, the digits and '-', '_', '.'")
    ]
    origin_type: Annotated[OriginType, PlainValidator(origin_type_of), Expected("the name of a kind, such as local")]
    priority: Annotated[int, _NotBool, Ge(0), Le(255), Expected("a whole number from 0 to 255")] = 100
    enabled: Bool = True
    timeout_ms: Milliseconds = 5000
    pool_size: Annotated[int, _NotBool, Ge(1), Le(256), Expected("a whole number from 1 to 256")] = 16
    poll_interval_secs: Seconds = 60
    full_poll_interval_secs: Seconds = 3600
    metered: Bool = False
    cache: Annotated[bool | None, Expected("true or false")] = None
    hedge: Bool = True
    bandwidth_limit: Annotated[
        Annotated[int, Ge(1)] | None,
        BeforeValidator(bytes_per_second),
        Expected('bytes per second, such as 2000000 or "2MB/s"'),
    ] = None
    bandwidth_limit_all: Bool = False
    ignore: Annotated[
        tuple[str, ...],
        AfterValidator(checked_patterns),
        Expected('a list of patterns, such as ["Podcasts/", "*.part"]'),
    ] = ()
    trusted: Bool = True
    settings: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        rest = {key: value for key, value in data.items() if key not in cls.model_fields}
        own.setdefault("metered", data.get("origin_type") == OriginType.S3)
        return own | {"settings": hide_secrets({**own.get("settings", {}), **rest})}

    @property
    def in_folder(self) -> bool:
        """Whether it is a folder of this machine, with the system's links and owners."""
        return self.origin_type in _IN_FOLDERS and self.settings.get("path") is not None

    def same_driver(self, other: OriginConfig) -> bool:
        """Whether one driver serves both: they differ at most in `priority` and `enabled`."""
        return self.model_copy(update={"priority": other.priority, "enabled": other.enabled}) == other


COMMON_KEYS = frozenset(OriginConfig.model_fields) - {"settings"}


class Config(_Settings):
    """Everything that one mount needs to know. Paths are absolute."""

    mount_point: Annotated[Path | None, Expected("a path")] = None
    cache_dir: Annotated[Path, Expected("a path")]
    origins: Annotated[tuple[OriginConfig, ...], Expected("one [[origins]] table for each origin")] = ()
    webhooks: Annotated[tuple[WebhookConfig, ...], Expected("one [[webhooks]] table for each")] = ()
    cache: CacheConfig = CacheConfig()
    health: HealthConfig = HealthConfig()
    tree: TreeConfig = TreeConfig()
    retry: RetryConfig = RetryConfig()
    mount: MountConfig = MountConfig()
    control: ControlConfig = ControlConfig()
    log: LogConfig = LogConfig()


def settle_links(config: Config) -> Config:
    """Sets `links` for each origin in a folder of this machine that does not set it.

    Where other users see the mount, a link must not show them what lies outside of the music.
    """
    links = "inside" if config.mount.allow_other else "all"

    def settled(origin: OriginConfig) -> OriginConfig:
        own = origin.settings
        if not origin.in_folder or own.get("links") is not None:
            return origin
        return origin.model_copy(update={"settings": {**own, "links": links}})

    return config.model_copy(update={"origins": tuple(map(settled, config.origins))})
