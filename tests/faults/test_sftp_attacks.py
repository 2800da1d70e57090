"""An SFTP server that means harm costs a call its time, and the process next to nothing."""

from __future__ import annotations

import pytest

from tests.support.confined import confined

ATTACKS = (
    "an_honest_server_is_served",
    "a_listing_that_no_one_waits_for_ends",
    "an_odd_name_costs_that_name_alone",
    "folders_that_hold_themselves_are_listed_to_a_depth",
    "packets_that_no_one_needs_end_the_connection",
    "what_is_read_is_what_was_asked_for",
    "a_limit_of_one_byte_is_not_believed",
    "links_lead_nowhere_bad",
    "a_flood_before_the_login_takes_no_longer_than_the_timeout",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_that_lies_harms_no_one(attack: str) -> None:
    """Of the memory the interpreter with all libraries takes about 90 MB."""
    confined("tests.faults.sftp_attacks", attack, megabytes=160, secs=110)


def test_no_listing_without_end_is_taken() -> None:
    confined("tests.faults.sftp_attacks", "no_listing_without_end_is_taken", megabytes=350, secs=110)
