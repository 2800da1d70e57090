"""Pages of a bucket's listing that fail, repeat or can't be parsed: what the others list is there all the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from musicfs.errors import OriginFailed
from musicfs.model import Stat
from musicfs.origins.s3.listing import parse_page
from musicfs.problems import Problem, Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.library import scanned_library
from tests.support.servers.odds3 import OddBucket, error
from tests.unit.test_s3_dialects import serving

FILES = {f"album/{n}.mp3": b"12345" for n in range(5)}


@dataclass
class Breaking(OddBucket):
    """Refuses every page after the first."""

    old: int = 3

    def _list(self, request: web.Request) -> web.Response:
        return error(400, "InvalidArgument") if "marker" in request.query else super()._list(request)


@dataclass
class Circling(OddBucket):
    """Leads from the second page to the third, and back."""

    def _list(self, request: web.Request) -> web.Response:
        token = {"a": "b", "b": "a"}.get(request.query.get("continuation-token", ""), "a")
        text = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        text += "<Contents><Key>album/0.mp3</Key><Size>5</Size></Contents>"
        return web.Response(content_type="application/xml", text=f"<ListBucketResult>{text}</ListBucketResult>")


@dataclass
class First(OddBucket):
    """Refuses the second version of listing."""

    old: int = 2

    def _list(self, request: web.Request) -> web.Response:
        return error(501, "NotImplemented") if "list-type" in request.query else super()._list(request)


async def test_what_was_listed_before_a_page_that_fails_is_shown(tmp_path: Path) -> None:
    async with serving(Breaking(FILES)) as origin:
        with scanned_library(tmp_path, template="$path") as library:
            library.adopt(origin)
            (scan,) = await library.scan()
            assert scan.error is not None
            assert "InvalidArgument" in scan.error
            assert library.paths() == ["album/0.mp3", "album/1.mp3", "album/2.mp3"]


async def test_a_listing_that_goes_in_circles_ends() -> None:
    bucket = Circling(FILES)
    async with serving(bucket) as origin:
        with pytest.raises(OriginFailed, match="in circles"):
            await observed(origin, RecordingObserver())
    assert len(bucket.requests) == 3


async def test_a_server_that_refuses_the_second_version_of_listing_is_asked_for_the_first() -> None:
    bucket = First(FILES)
    async with serving(bucket) as origin:
        assert set(await observed(origin, RecordingObserver())) == set(FILES)
        await origin.health()
    assert sum("list-type" in request.query for request in bucket.requests) == 1


@pytest.mark.parametrize("key", [b"a\x01b", b"a&#1;b", b"a&#x1F;b", b"a\xe9b", b"a\x00b"])
def test_a_key_that_xml_can_not_hold_costs_itself_alone(key: bytes) -> None:
    def listed(key: bytes) -> bytes:
        return b"<Contents><Key>" + key + b"</Key><Size>5</Size></Contents>"

    body = b"<ListBucketResult>" + listed(b"a&#9;b") + listed(key) + listed("ä".encode()) + b"</ListBucketResult>"
    first, second, third = parse_page(body).entries
    assert (first, third) == (Stat("a\tb", 5, 0), Stat("ä", 5, 0))
    assert isinstance(second, Problem)
    assert (second.path, second.reason) == ("a\ufffdb", Reason.BAD_NAME)


def test_a_listing_of_folders_alone_is_refused() -> None:
    folders = b"<CommonPrefixes><Prefix>album/</Prefix></CommonPrefixes>"
    with pytest.raises(ValueError, match="folders alone"):
        parse_page(b"<ListBucketResult>" + folders + b"</ListBucketResult>")
