"""S3 and WebDAV servers that mean harm cost a call its time, and the process next to nothing."""

from __future__ import annotations

import pytest

from tests.support.confined import confined

ATTACKS = "tests.faults.http_attacks"

pytestmark = pytest.mark.parametrize("kind", ["s3", "webdav"])


def test_an_answer_without_end_is_not_taken(kind: str) -> None:
    """Of the memory the interpreter with all libraries takes about 80 MB, and a folder of WebDAV 32 MiB, parsed too."""
    confined(ATTACKS, "none_is_taken", kind, megabytes=200, secs=110)


def test_a_listing_that_costs_more_than_its_size_is_refused_beside_the_event_loop(kind: str) -> None:
    confined(ATTACKS, "no_document_is_swallowed", kind, megabytes=250, secs=110)
