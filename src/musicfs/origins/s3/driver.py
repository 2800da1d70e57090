"""The driver for buckets. A key below the prefix is a path; a file's version is its ETag."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from musicfs.config.kinds import OriginKind, missing_extra
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, first_of
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import FolderIdentity, HandOut, ScanObserver, WatchCallback, WatchHandle
from musicfs.origins.folder_identity import folder_on_server
from musicfs.origins.helpers import EmptyRootCheck, FolderFailures, StrictObserver, check_version, size_within
from musicfs.origins.s3.client import Bucket, S3Response, Take
from musicfs.origins.s3.credentials import CredentialChain
from musicfs.origins.s3.errors import error_code, is_of_access, refusal
from musicfs.origins.s3.listing import (
    PAGE,
    Entered,
    Folders,
    Page,
    bare_etag,
    is_name,
    parse_page,
    time_of,
)
from musicfs.origins.s3.parts import Parts
from musicfs.origins.s3.settings import S3Settings, from_url, server_of
from musicfs.origins.s3.spans import spans_of
from musicfs.origins.s3.spellings import Spellings
from musicfs.problems import Problem, Reason
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

_PROBED = 2  # keys: one may be the prefix itself
_MAX_PAGE = 4 << 20
"""Bytes of a page: it has at most 1,000 keys of 1,024 bytes, each of which may be escaped to three, and some 400 bytes
of attributes. Amazon's real pages have 300 KB."""
_MAX_PROBE = 1 << 20
_MAX_EMPTY = 1000  # pages without a key in a row: buckets with many deleted versions have some
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the requests for a page while the server is busy."""
_HTML = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)


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
        self._amazons = settings.endpoint is None
        self._spellings = Spellings()
        self._knows_second_listing = True
        """Whether the server has not yet answered that it knows only the first version of ListObjects."""
        self._conditions_fail = False
        """Whether the server refuses its own ETags as conditions."""
        self._credentials = CredentialChain(config, settings)
        self._parsing = WorkerThreads(f"origin-{config.id}-listings", 1)
        self._bucket = Bucket(config.id, settings, self._credentials, config.pool_size, config.timeout_ms / 1000)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._read(replica, offset, size_within(replica, offset, size))

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads ranges at once, with one request for those that lie close together (origin.ReadsRanges)."""
        spans = spans_of((offset, size_within(replica, offset, size)) for offset, size in ranges)
        try:
            async with asyncio.TaskGroup() as group:
                reads = {span: group.create_task(self._read(replica, *span)) for span in spans}
        except* MusicFSError as failures:
            raise first_of(failures) from None
        whole = {start: read.result() for (start, _), read in reads.items()}

        def cut(offset: int, size: int) -> bytes:
            start = max(start for start in whole if start <= offset)
            return whole[start][offset - start : offset - start + size]

        return [cut(offset, size) for offset, size in ranges]

    def plan_requests(self, ranges: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Returns the requests that `read_ranges` makes (origin.PlansRequests)."""
        return spans_of(ranges)

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
        answer = await self._ask("HEAD", path)
        if answer.status != 200:
            raise await self._failure(path, answer)
        size = answer.headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,19}", size):
            raise OriginFailed(self.id, OriginFault.IO, "a file was described without its size")
        return self._described(path, answer, int(size))

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by the endpoint, the bucket and the prefix (origin.KnowsItsFolder)."""
        return folder_on_server(f"s3@{self._server}", f"{self._name}/{self._root}")

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self.scan_observed(StrictObserver(self.id), under)

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and reports keys that are left out (origin.ObservesScans)."""
        folders = Folders()
        try:
            async for found in self._in_order_of_keys(observer, under):
                for stat in folders.add(found):
                    yield stat
        except OriginFailed:
            for stat in folders.rest():  # the pages before the one that failed
                yield stat
            raise
        for stat in folders.rest():
            yield stat

    async def _in_order_of_keys(self, observer: ScanObserver, under: str) -> AsyncIterator[Stat]:
        if under:
            self._key(under)
        entered, any_keys, any_entries = Entered(observer, under), False, False
        async for page in self._observed_pages(observer, under):
            if page is None:
                return
            any_entries = any_entries or bool(page.entries)
            for entry in page.entries:
                path = entry.path.removeprefix(self._root)
                any_keys = any_keys or path != ""
                found = entry._replace(path=path) if isinstance(entry, Problem) else self._below(path, entry)
                if found is None or not entered.wants(path):
                    continue
                if isinstance(found, Problem):
                    observer.report(found)
                else:
                    yield found
        if under:
            async for stat in self._file(under, any_keys):
                yield stat
        else:
            self._check_prefix(any_entries)
            self._check_empty(not any_keys)

    def _check_prefix(self, has_entries: bool) -> None:
        """Raises OriginFailed for a prefix that not even a marker has: in a bucket, such a folder is not there."""
        if self._root and not has_entries:
            detail = f"there is nothing below the prefix {self._root!r} in the bucket {self._name!r}; correct it"
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, detail)

    @staticmethod
    def _below(path: str, entry: Stat) -> Stat | Problem | None:
        """Returns what a key below the root is; None if it only marks a folder."""
        if is_name(path):
            return Stat(path, entry.size, entry.mtime_ns, entry.etag)
        return Problem(path, Reason.BAD_NAME) if path and not path.endswith("/") else None

    async def _observed_pages(self, observer: ScanObserver, under: str) -> AsyncIterator[Page | None]:
        """The pages of all keys below `under`; None at the end for a folder whose listing is denied, which is
        reported."""
        try:
            async for page in self._pages(f"{self._root}{under}/" if under else self._root):
                yield page
        except OriginFailed as failure:
            if failure.fault is not OriginFault.DENIED:
                raise
            await FolderFailures(observer, self._check_root).take(under, failure)
            yield None

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

    def drop_connections(self) -> None:
        """Ends all connections (origin.DropsConnections)."""
        self._bucket.drop()

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
        condition = {} if replica.etag is None or self._conditions_fail else {"if-match": f'"{replica.etag}"'}
        answer = await self._ask("GET", replica.path, headers | condition, size, begin)
        if answer.status == 412 and condition:
            # Some servers refuse their own ETags. Without the condition, what comes is compared all the same.
            answer = await self._ask("GET", replica.path, headers, size, begin)
            self._conditions_fail = _is_of(answer, replica)
        if answer.status not in (200, 206):
            raise await self._failure(replica.path, answer)
        return answer

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, most: int = 0,
        begin: Callable[[S3Response], Take] | None = None,
    ) -> S3Response:  # fmt: skip
        """Requests a file by its key; under the key's other spellings while the server has none. See `Bucket.ask`."""
        key = self._key(path)
        for spelling in self._spellings.of(key):
            answer = await self._bucket.ask(method, spelling, headers=headers, most=most, begin=begin)
            if answer.status != 404:
                self._spellings.learn(key, spelling)
                break
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
        etag = bare_etag(answer.headers.get("etag"))
        try:
            mtime_ns = time_of(answer.headers.get("last-modified", ""))
        except (ValueError, OverflowError):
            if not etag:
                raise OriginFailed(self.id, OriginFault.IO, "a file was sent without its time") from None
            mtime_ns = 0  # as in a listing; the ETag is the version
        return Stat(path, size, mtime_ns, etag)

    async def _check_root(self) -> None:
        """Raises OriginFailed if the bucket can't be listed, or is empty although files of it are known."""
        page = await self._page(self._query(self._root, _PROBED), most=_MAX_PROBE)
        self._check_prefix(bool(page.entries))
        self._check_empty(all(entry.path == self._root for entry in page.entries))

    async def _pages(self, prefix: str) -> AsyncIterator[Page]:
        query = self._query(prefix, PAGE)
        headers = {"x-amz-optional-object-attributes": "RestoreStatus"} if self._amazons else {}
        empty, places = 0, set[tuple[str, ...]]()
        while True:
            page = await self._next_page(query, headers)
            yield page
            if page.following is None:
                return
            empty = 0 if page.entries else empty + 1
            place = tuple(page.following.values())
            if place in places or empty > _MAX_EMPTY:
                raise OriginFailed(self.id, OriginFault.IO, "the listing goes in circles")
            places.add(place)
            if "marker" in page.following:
                query.pop("list-type", None)  # the server does not know it
            query |= page.following

    async def _next_page(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Page:
        """Requests a page, and again while the server is busy: only the listing knows where it was."""
        for wait in _WAITS:
            try:
                return await self._page(query, headers)
            except OriginFailed as failure:
                if failure.busy_secs is None:
                    raise
                await asyncio.sleep(max(failure.busy_secs, wait))
        return await self._page(query, headers)

    def _query(self, prefix: str, most: int) -> dict[str, str]:
        version = {"list-type": "2"} if self._knows_second_listing else {}
        return {**version, "max-keys": str(most), "prefix": prefix, "encoding-type": "url"}

    async def _page(
        self, query: Mapping[str, str], headers: Mapping[str, str] | None = None, most: int = _MAX_PAGE
    ) -> Page:
        """Requests a page of at most `most` bytes. Some servers always send as many keys as they may."""
        answer = await self._bucket.ask("GET", query=query, headers=headers, most=most)
        if answer.status == 501 and "list-type" in query:
            self._knows_second_listing = False
            first = {name: value for name, value in query.items() if name != "list-type"}
            answer = await self._bucket.ask("GET", query=first, headers=headers, most=most)
        if answer.status != 200:
            raise self._refusal(answer, f"{self._name}/{query['prefix']} can't be listed")
        try:
            # In a thread: the event loop serves all origins, and this server decides how long parsing takes.
            return await self._parsing.run(parse_page, answer.body)
        except (ValueError, OverflowError) as error:
            if _HTML.match(answer.body):
                detail = "a web page came instead of a listing; is the endpoint right, and is there a sign-in page?"
                raise OriginFailed(self.id, OriginFault.IO, detail) from error
            raise OriginFailed(self.id, OriginFault.IO, f"a listing can't be understood: {error}") from error
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    async def _failure(self, path: str, answer: S3Response) -> MusicFSError:
        """Translates a refused request into a failure of the origin, or only of the file."""
        if answer.status in (412, 416):
            return ReplicaFailed(self.id, path, ReplicaFault.CHANGED)
        if error_code(answer.body) == "InvalidObjectState":
            return ReplicaFailed(self.id, path, ReplicaFault.ARCHIVED, "restore it from its archive to play it")
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
        if is_of_access(answer.status, answer.body):
            self._credentials.forget()
        return refusal(self.id, self._name, what, answer.status, answer.headers, answer.body)


def _is_of(answer: S3Response, replica: Replica) -> bool:
    """Whether a success is of this version of the file."""
    return answer.status in (200, 206) and bare_etag(answer.headers.get("etag")) == replica.etag


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
