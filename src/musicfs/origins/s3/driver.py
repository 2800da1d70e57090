"""The driver for buckets. A key below the prefix is a path; a file's version is its ETag."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence

from musicfs.config.kinds import OriginKind, missing_extra
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import FolderIdentity, HandOut, WatchCallback, WatchHandle
from musicfs.origins.folder_identity import folder_on_server
from musicfs.origins.helpers import EmptyRootCheck, check_version, size_within
from musicfs.origins.s3.client import Bucket, S3Response, Take
from musicfs.origins.s3.credentials import CredentialChain
from musicfs.origins.s3.listing import (
    PAGE,
    Folders,
    Page,
    bare_etag,
    error_code,
    is_name,
    is_shown,
    parse_page,
    time_of,
)
from musicfs.origins.s3.parts import Parts
from musicfs.origins.s3.settings import S3Settings, from_url, server_of
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

_PROBED = 2  # keys: one may be the prefix itself
_MAX_PROBE = 64 << 10
_MAX_PAGE = 4 << 20
"""Bytes of a page: it has at most 1,000 keys of 1,024 bytes, each of which may be escaped to three, and some 400 bytes
of attributes. Amazon's real pages have 300 KB."""
_MAX_EMPTY = 1000  # pages without a key in a row: buckets with many deleted versions have some
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired")
_REMEDIES = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is not known there",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}


class S3Origin:
    """Reads a bucket; origin.Origin is the contract."""

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        settings = S3Settings.model_validate(dict(config.settings))
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        self._name = settings.bucket
        self._server = server_of(dict(config.settings))
        self._root = f"{settings.prefix}/" if settings.prefix else ""
        self._check_empty = EmptyRootCheck(config.id, populated, f"there is nothing in {self._name}/{self._root}")
        self._credentials = CredentialChain(config, settings)
        self._parsing = WorkerThreads(f"origin-{config.id}-listings", 1)
        self._bucket = Bucket(config.id, settings.url_in, self._credentials, config.pool_size, config.timeout_ms / 1000)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._read(replica, offset, size_within(replica, offset, size))

    async def read_parts(self, replica: Replica, offset: int, sizes: Sequence[int], hand_out: HandOut) -> None:
        """Reads parts as one request, and hands out each as soon as it has arrived (origin.Streams)."""
        total = sum(sizes)
        parts = Parts(sizes, hand_out)

        def begin(head: S3Response) -> Take:
            self._check(replica, offset, head)
            return parts.take

        answer = await self._get(replica, offset, total, begin)
        if answer.body:  # the server ignores ranges and has sent the whole file
            self._check(replica, offset, answer)
            parts.take(answer.body)
        if not parts.complete:
            raise self._other_range()

    async def stat(self, path: str) -> Stat:
        answer = await self._bucket.ask("HEAD", self._key(path))
        if answer.status != 200:
            raise await self._failure(path, answer)
        size = answer.headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,19}", size):
            raise OriginFailed(self.id, OriginFault.IO, "a file was described without its size")
        return self._described(path, answer, int(size))

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by the endpoint, the bucket and the prefix (origin.KnowsItsFolder)."""
        return folder_on_server(f"s3@{self._server}", f"{self._name}/{self._root}")

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        if under:
            self._key(under)
        folders, any_keys = Folders(), False
        async for page in self._pages(f"{self._root}{under}/" if under else self._root):
            for entry in page.entries:
                path = entry.path.removeprefix(self._root)
                any_keys = any_keys or path != ""
                if is_shown(path):
                    for stat in folders.add(Stat(path, entry.size, entry.mtime_ns, entry.etag)):
                        yield stat
        for stat in folders.rest():
            yield stat
        if under:
            async for stat in self._file(under, any_keys):
                yield stat
        else:
            self._check_empty(not any_keys)

    async def _file(self, path: str, is_folder: bool) -> AsyncIterator[Stat]:
        try:
            yield await self.stat(path)
        except ReplicaFailed:
            if not is_folder:
                raise

    async def health(self) -> HealthStatus:
        await self._check_root()
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return None

    async def aclose(self) -> None:
        self._parsing.close()
        await self._bucket.aclose()

    def _key(self, path: str) -> str:
        key = self._root + path
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "no key can have such a name") from None
        if not is_name(path):
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is no path of a file")
        return key

    async def _read(self, replica: Replica, offset: int, size: int) -> bytes:
        if not size:
            self._key(replica.path)
            return b""
        answer = await self._get(replica, offset, size)
        self._check(replica, offset, answer)
        if len(answer.body) != size:
            raise self._other_range()
        return answer.body

    async def _get(
        self, replica: Replica, offset: int, size: int, begin: Callable[[S3Response], Take] | None = None
    ) -> S3Response:
        """Requests a range. Returns a success. begin: takes the body as it arrives, see `Bucket.ask`."""
        headers = {"range": f"bytes={offset}-{offset + size - 1}"}
        if replica.etag is not None:
            headers["if-match"] = f'"{replica.etag}"'
        answer = await self._bucket.ask("GET", self._key(replica.path), headers=headers, most=size, begin=begin)
        if answer.status not in (200, 206):
            raise await self._failure(replica.path, answer)
        return answer

    def _check(self, replica: Replica, offset: int, answer: S3Response) -> None:
        """Raises unless the answer is of this version of the file and begins at `offset`. Its body may be
        incomplete."""
        first, whole = self._place(answer)
        check_version(replica, self._described(replica.path, answer, whole))
        if first != offset:
            raise self._other_range()

    def _other_range(self) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.IO, "another range was sent than was asked for")

    def _place(self, answer: S3Response) -> tuple[int, int]:
        """Returns where the body begins in the file, and the file's size."""
        if answer.status == 200:
            return 0, len(answer.body)
        found = re.fullmatch(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})", answer.headers.get("content-range", ""))
        if found is None:
            raise OriginFailed(self.id, OriginFault.IO, "a range was sent without its place")
        return int(found[1]), int(found[2])

    def _described(self, path: str, answer: S3Response, size: int) -> Stat:
        try:
            mtime_ns = time_of(answer.headers.get("last-modified", ""))
        except (ValueError, OverflowError):
            raise OriginFailed(self.id, OriginFault.IO, "a file was sent without its time") from None
        return Stat(path, size, mtime_ns, bare_etag(answer.headers.get("etag")))

    async def _check_root(self) -> None:
        """Raises OriginFailed if the bucket can't be listed, or is empty although files of it are known."""
        page = await self._page(self._query(self._root, _PROBED), _PROBED, _MAX_PROBE)
        self._check_empty(all(entry.path == self._root for entry in page.entries))

    async def _pages(self, prefix: str) -> AsyncIterator[Page]:
        query = self._query(prefix, PAGE)
        empty = 0
        while True:
            page = await self._page(query, PAGE, _MAX_PAGE)
            yield page
            if page.following is None:
                return
            empty = 0 if page.entries else empty + 1
            if page.following == query.get("continuation-token") or empty > _MAX_EMPTY:
                raise OriginFailed(self.id, OriginFault.IO, "the listing goes in circles")
            query["continuation-token"] = page.following

    @staticmethod
    def _query(prefix: str, most: int) -> dict[str, str]:
        return {"list-type": "2", "max-keys": str(most), "prefix": prefix, "encoding-type": "url"}

    async def _page(self, query: dict[str, str], most: int, largest: int) -> Page:
        """Requests a page. most: keys in it. largest: bytes that they may take."""
        answer = await self._bucket.ask("GET", query=query, most=largest)
        if answer.status != 200:
            raise self._refusal(answer, f"{self._name}/{query['prefix']} can't be listed")
        try:
            # In a thread: the event loop serves all origins, and this server decides how long parsing takes.
            return await self._parsing.run(parse_page, answer.body, most)
        except (ValueError, OverflowError) as error:
            raise OriginFailed(self.id, OriginFault.IO, f"a listing can't be understood: {error}") from error
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    async def _failure(self, path: str, answer: S3Response) -> MusicFSError:
        """Translates a refused request into a failure of the origin, or only of the file."""
        if answer.status in (412, 416):
            return ReplicaFailed(self.id, path, ReplicaFault.CHANGED)
        if answer.status not in (401, 403, 404):
            return self._refusal(answer, path)
        try:
            await self._check_root()
        except OriginFailed as failed:
            return failed
        if answer.status == 404:
            return ReplicaFailed(self.id, path, ReplicaFault.MISSING)
        return ReplicaFailed(self.id, path, ReplicaFault.DENIED, error_code(answer.body))

    def _refusal(self, answer: S3Response, what: str) -> OriginFailed:
        code = error_code(answer.body)
        if answer.status in (401, 403) or code in _EXPIRED:
            self._credentials.forget()
            return OriginFailed(self.id, OriginFault.DENIED, f"{what}: {_REMEDIES.get(code, code) or answer.status}")
        region = answer.headers.get("x-amz-bucket-region")
        if answer.status in (301, 307, 308, 400) and region:
            return OriginFailed(self.id, OriginFault.UNREACHABLE, f"{what}: set its region to {region!r}")
        if answer.status == 404:
            return OriginFailed(self.id, OriginFault.UNREACHABLE, f"there is no bucket {self._name!r}")
        return OriginFailed(self.id, OriginFault.IO, f"{what}: HTTP {answer.status} {code}".rstrip())


def _missing(config: OriginConfig) -> str | None:
    return missing_extra(config, "botocore", "s3")


KIND = OriginKind(
    OriginType.S3,
    S3Settings,
    S3Origin,
    remote=True,
    schemes=("s3",),
    from_url=from_url,
    missing=_missing,
    server=server_of,
)
