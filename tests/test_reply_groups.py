"""Replies of real servers: what differs in a queue name, an address or an instant only is one reason on a page."""

from __future__ import annotations

import pytest

from app.campaigns.told import without_marks

#: Two of the same reason each, as the servers of large providers and the usual programs word it.
SAME = [
    (
        "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown in local recipient table",
        "550 5.1.1 <bob.b+x@mail.example.org>: Recipient address rejected: User unknown in local recipient table",
    ),
    (
        "550-5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
        "recipient's email address for typos. For more, go to https://support.google.com/mail/?p=NoSuchUser "
        "d9443c01a7336-1d8f7a1b2c3si4567890plb.12 - gsmtp",
        "550-5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
        "recipient's email address for typos. For more, go to https://support.google.com/mail/?p=NoSuchUser "
        "5b1f17b1804b1-43f5a7e2c1fsi98765321cad.7 - gsmtp",
    ),
    (
        "421-4.7.0 [203.0.113.4 15] Our system has detected an unusual rate of unsolicited mail. "
        "a1b2c3d4e5f6-7a8b9csi123456wrx.1 - gsmtp",
        "421-4.7.0 [203.0.113.77 15] Our system has detected an unusual rate of unsolicited mail. "
        "f9e8d7c6b5a4-1b2c3dsi765432wrx.2 - gsmtp",
    ),
    (
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). "
        "[BN8NAM12FT012.eop-nam12.prod.protection.outlook.com 2026-11-22T10:11:12.345Z 08DC1A2B3C4D5E6F]",
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). "
        "[DB5EUR03FT031.eop-EUR03.prod.protection.outlook.com 2026-11-23T09:08:07.001Z 08DCFEDCBA987654]",
    ),
    (
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [AM2PEPF0001C70A.eurprd05.prod.outlook.com "
        "2026-11-22T10:11:12.345Z 08DC0123456789AB]",
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DU2PEPF00028D0B.eurprd03.prod.outlook.com "
        "2026-11-24T11:12:13.456Z 08DCBA9876543210]",
    ),
    (
        "550 Message rejected as spam by filter id 4f2c9a1e-77b0-4c1d",
        "550 Message rejected as spam by filter id 0d3b8e5a-12c4-4e9f",
    ),
    (
        "554 5.7.1 Service unavailable; Client host [203.0.113.4] blocked using zen.spamhaus.org; "
        "https://www.spamhaus.org/query/ip/203.0.113.4",
        "554 5.7.1 Service unavailable; Client host [198.51.100.9] blocked using zen.spamhaus.org; "
        "https://www.spamhaus.org/query/ip/198.51.100.9",
    ),
    (
        "452 4.3.1 Insufficient system resources (try later) 1tKd2Q-00034f-Ab",
        "452 4.3.1 Insufficient system resources (try later) 1tKd9Z-0007xQ-7c",
    ),
    (
        "451 4.7.1 Greylisting in action, please come back in 00:04:51",
        "451 4.7.1 Greylisting in action, please come back in 00:02:07",
    ),
    (
        "450 4.2.0 <ann@example.com>: Recipient address rejected: Greylisted for 287 seconds",
        "450 4.2.0 <bob@example.org>: Recipient address rejected: Greylisted for 12 seconds",
    ),
    ("450 4.1.2 sender verify failed on 2001:db8::1:25", "450 4.1.2 sender verify failed on 2001:db8:9::ffff"),
    (
        "gave up after 5 attempts: 450 4.2.1 mailbox busy, ref 8F3A21B7C0",
        "gave up after 5 attempts: 450 4.2.1 mailbox busy, ref 77D0E19A42",
    ),
]
#: What a person tells apart.
DIFFERENT = [
    ("550 5.1.1 user unknown", "550 5.7.1 user unknown"),
    ("550 5.1.1 user unknown", "450 4.1.1 user unknown"),
    ("550 mailbox full", "550 mailbox disabled"),
    ("gave up after 5 attempts: 450 busy", "gave up after 3 attempts: 450 busy"),
    ("554 blocked using zen.spamhaus.org", "554 blocked using bl.spamcop.net"),
    ("421 4.7.0 too many connections", "421 4.3.2 too many connections"),
]
#: What stays readable after everything that differs was left out.
KEPT = [
    (
        "550-5.1.1 does not exist https://support.google.com/mail/?p=NoSuchUser "
        "5b1f17b1804b1-43f5a7e2c1fsi98765321cad.7 - gsmtp",
        ("550-5.1.1", "support.google.com/mail/?p=NoSuchUser", "gsmtp"),
    ),
    ("554 5.7.1 Client host [203.0.113.4] blocked using zen.spamhaus.org", ("554 5.7.1", "zen.spamhaus.org")),
    ("550 5.5.0 mailbox unavailable (S2017062302).", ("550 5.5.0 mailbox unavailable",)),
    ("not an address: 'ann example.com'", ("not an address",)),
    ("Error :: 5.7.1 :: see https://x.test:8080/face::b", ("Error :: 5.7.1 ::", "https://x.test:8080/face::b")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_differs_for_each_mail_only_is_one_reason(one: str, other: str) -> None:
    assert without_marks(one) == without_marks(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_a_person_tells_apart_stays_apart(one: str, other: str) -> None:
    assert without_marks(one) != without_marks(other)


@pytest.mark.parametrize(("reply", "kept"), KEPT)
def test_what_says_why_is_kept(reply: str, kept: tuple[str, ...]) -> None:
    shown = without_marks(reply)
    assert [part for part in kept if part not in shown] == []
