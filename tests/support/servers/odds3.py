"""An S3 server in this process that is odd in the ways that a test wants. It checks no signatures."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from aiohttp import web

from tests.support.servers.process import HOST, free_port

STORED = "2024-01-01T00:00:00.000Z"
MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass
class OddBucket:
    """What the server holds and how it is odd.

    safe: signs that its listings do not escape. announces: whether they say that they are escaped. conditions: whether
    it knows its own ETags. weak: its answers have weak ETags. cold: the keys in an archive. busy: how many of the next
    requests it refuses; busy_every: it always refuses one in so many. old: it knows only the first version of listing,
    with so many keys in a page. range_status: of an answer that is a range. requests: what it was asked.
    """

    files: Mapping[str, bytes]
    safe: str = "/"
    announces: bool = True
    conditions: bool = True
    weak: bool = False
    cold: frozenset[str] = frozenset()
    busy: int = 0
    busy_status: int = 503
    busy_every: int = 0
    old: int = 0
    range_status: int = 206
    requests: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        _, _, key = unquote(request.rel_url.raw_path).lstrip("/").partition("/")
        if self.busy or (self.busy_every and len(self.requests) % self.busy_every == 0):
            self.busy = max(0, self.busy - 1)
            return error(self.busy_status, "SlowDown", {"Retry-After": "0"})
        if not key:
            return self._list(request)
        if key not in self.files:
            return error(404, "NoSuchKey")
        if key in self.cold:
            return error(403, "InvalidObjectState")
        if request.headers.get("If-Match") and not self.conditions:
            return error(412, "PreconditionFailed")
        data = self.files[key]
        headers = {"ETag": ("W/" if self.weak else "") + etag(key), "Last-Modified": MODIFIED}
        if not (wanted := request.headers.get("Range")):
            return web.Response(body=data, headers=headers)
        start, end = map(int, wanted.removeprefix("bytes=").split("-"))
        place = f"bytes {start}-{min(end, len(data) - 1)}/{len(data)}"
        headers["Content-Range"] = place
        return web.Response(status=self.range_status, body=data[start : end + 1], headers=headers)

    def _list(self, request: web.Request) -> web.Response:
        keys = sorted(key for key in self.files if key.startswith(request.query.get("prefix", "")))
        keys = [key for key in keys if key > request.query.get("marker", "")] if self.old else keys
        more = 0 < self.old < len(keys)
        body = "".join(
            f"<Contents><Key>{quote(key, safe=self.safe)}</Key><LastModified>{STORED}</LastModified>"
            f"<ETag>{etag(key)}</ETag><Size>{len(self.files[key])}</Size>"
            f"<StorageClass>{'GLACIER' if key in self.cold else 'STANDARD'}</StorageClass></Contents>"
            for key in (keys[: self.old] if self.old else keys)
        )
        said = "<EncodingType>url</EncodingType>" if self.announces else ""
        said += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return web.Response(content_type="application/xml", text=f"<ListBucketResult>{said}{body}</ListBucketResult>")


def etag(key: str) -> str:
    return f'"{hashlib.md5(key.encode()).hexdigest()}"'


def error(status: int, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", headers=headers)


@asynccontextmanager
async def odd_s3(bucket: OddBucket) -> AsyncIterator[dict[str, object]]:
    """Serves the bucket "music". Yields the settings of an origin."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", bucket.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield {
            "id": "cloud", "origin_type": "s3", "bucket": "music", "endpoint": f"http://{HOST}:{port}",
            "access_key_id": "id", "secret_access_key": "secret",
        }  # fmt: skip
    finally:
        await runner.cleanup()
