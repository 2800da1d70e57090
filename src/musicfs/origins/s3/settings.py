"""The settings of an S3 origin, from a table of the configuration or from a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

from musicfs.config.models import Bool
from musicfs.config.sources import SECRET_KEYS, Expected
from musicfs.origin import server_name
from musicfs.origins.s3.listing import is_name

_IN_URLS = ("endpoint", "region", "profile", "path_style", "anonymous", "requester_pays")


def _bucket(value: str) -> str:
    if not value or set(value) & set("/?#@ "):
        raise ValueError("not a bucket")
    return value


def _prefix(value: str) -> str:
    value = value.strip("/")
    if value and not is_name(value):
        raise ValueError('the prefix must be like the path of a folder, without ".", ".." or "//" in it')
    return value


def _endpoint(value: str) -> str:
    """Checks an endpoint. There is no `Expected`: its message would show a password in the URL."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ValueError("the endpoint must be a URL such as https://s3.example.net or http://nas:9000")
    if "@" in url.netloc:
        raise ValueError("the endpoint must not hold a password: each secret has its own variable")
    return value.rstrip("/")


class S3Settings(BaseModel):
    """The settings. bucket: its name. prefix: of the keys that are music, like a folder. endpoint: of servers other
    than Amazon's.

    path_style: whether the bucket is named in the path and not in the host; by default for all but Amazon's.
    anonymous: whether requests are not signed, for a bucket that is open to all. ca_bundle: the authorities that the
    server's certificate may be signed by. requester_pays: whether requests say that the user pays for them, as buckets
    of some owners demand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: Annotated[str, AfterValidator(_bucket), Expected("the name of the bucket")]
    prefix: Annotated[str, AfterValidator(_prefix)] = ""
    region: str | None = None
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    profile: str | None = None
    path_style: Bool | None = None
    anonymous: Bool = False
    requester_pays: Bool = False
    ca_bundle: Annotated[Path | None, Expected("a file of certificates")] = None
    access_key_id: SecretStr | None = None
    access_key_id_file: str | None = None
    secret_access_key: SecretStr | None = None
    secret_access_key_file: str | None = None
    session_token: SecretStr | None = None
    session_token_file: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every request has."""
        return {"x-amz-request-payer": "requester"} if self.requester_pays else {}

    def url_in(self, region: str) -> str:
        """Returns the address of the bucket."""
        suffix = ".cn" if region.startswith("cn-") else ""
        endpoint = self.endpoint or f"https://s3.{region}.amazonaws.com{suffix}"
        # A certificate for *.host does not cover names with more dots.
        by_host = self.endpoint is None and "." not in self.bucket if self.path_style is None else not self.path_style
        url = urlsplit(endpoint)
        if by_host:
            return f"{url.scheme}://{self.bucket}.{url.netloc}{url.path}"
        return f"{endpoint}/{self.bucket}"


def server_of(settings: Mapping[str, Any]) -> str | None:
    """Returns the server (OriginKind.server). A region becomes a part of the host's name, so it must look like one."""
    endpoint, region = settings.get("endpoint"), settings.get("region")
    if isinstance(endpoint, str):
        url = urlsplit(endpoint)
        return server_name(url.hostname, url.port or (443 if url.scheme == "https" else 80))
    if not re.fullmatch(r"[a-z0-9-]*", region or ""):
        return None
    return server_name("amazonaws.com")


def from_url(url: SplitResult) -> dict[str, object]:
    """s3://bucket/prefix?endpoint=...&region=...&profile=...&path_style=true (see kinds.OriginKind)."""
    if "@" in url.netloc:
        raise ValueError("keys do not belong into a URL, where others can see them; set them as variables.")
    if not url.netloc:
        raise ValueError("the bucket is missing: write s3://bucket or s3://bucket/prefix.")
    if url.fragment:
        raise ValueError("a '#' ends a URL; write it as %23.")
    settings: dict[str, object] = {"bucket": url.netloc}
    if prefix := unquote(url.path).strip("/"):
        settings["prefix"] = prefix
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name in SECRET_KEYS:
            raise ValueError(f"{name} does not belong into a URL, where others can see it; set it as a variable.")
        if name not in _IN_URLS:
            raise ValueError(f"{name!r} is not known here: use {', '.join(_IN_URLS)}.")
        settings[name] = value
    return settings
