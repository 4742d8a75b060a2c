"""The tables as peewee models: for reading and writing single things.

The paths that carry millions of rows (import, expansion, leases, outcomes) speak SQL through
`Db`. A test compares these columns with the migrated schema on both databases.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    CharField,
    CompositeKey,
    DatabaseProxy,
    DoubleField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
)

from app.config import Settings
from app.db import Db, connect_url

_proxy = DatabaseProxy()


@lru_cache(maxsize=1)
def _connected(url: str) -> Db:
    return connect_url(url)


def open_database(settings: Settings) -> Db:
    """Connect to the settings' database and make the models speak to it.

    The same Db every time: with two of them, the models would speak past an open transaction.
    """
    db = _connected(settings.database_url)
    bind(db)
    return db


def bind(db: Db) -> None:
    """Make the models speak to this database."""
    _proxy.initialize(db.peewee)


class Table(Model):
    class Meta:
        database = _proxy


class Subscriber(Table):
    """A person, once, whatever the spelling of the address. `email_key` is the folded address."""

    id = AutoField()
    email = CharField(max_length=320)
    email_key = CharField(max_length=320, unique=True)
    name = CharField(max_length=200, default="")
    attributes = TextField(default="{}")
    status = CharField(max_length=16, default="active")
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    bounces = IntegerField(default=0)
    status_reason = CharField(max_length=500, null=True)

    class Meta:
        table_name = "subscribers"


class List(Table):
    """`unsubscribed_at` grows whenever somebody leaves the list, and never stays or goes back."""

    id = AutoField()
    name = CharField(max_length=200, unique=True)
    created_at = BigIntegerField()
    unsubscribed_at = BigIntegerField(null=True)

    class Meta:
        table_name = "lists"


class Membership(Table):
    list_id = BigIntegerField()
    subscriber_id = BigIntegerField()
    status = CharField(max_length=16)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = "memberships"
        primary_key = CompositeKey("list_id", "subscriber_id")


class Server(Table):
    """An SMTP server. The password is not here: `password_env` names the variable that holds it."""

    id = AutoField()
    name = CharField(max_length=100, unique=True)
    host = CharField(max_length=253)
    port = IntegerField()
    tls = CharField(max_length=8)
    tls_ca = CharField(max_length=500, null=True)
    username = CharField(max_length=200, null=True)
    password_env = CharField(max_length=100, null=True)
    per_second = IntegerField(null=True)
    per_minute = IntegerField(null=True)
    per_hour = IntegerField(null=True)
    per_day = IntegerField(null=True)
    max_connections = IntegerField(null=True)
    state = CharField(max_length=16, default="active")
    cooldown_until = BigIntegerField(null=True)
    cooldown_reason = CharField(max_length=500, null=True)
    created_at = BigIntegerField()
    weight = IntegerField(default=1)
    timezone = CharField(max_length=64, default="UTC")
    cooldown_step = IntegerField(default=0)
    trial_until = BigIntegerField(null=True)

    class Meta:
        table_name = "servers"


class Campaign(Table):
    """`served` and `served_from` are the fair sharing's finish and start tags, `queued`: whether they hold (turns.py).

    `boost`: workers of its own that a person wants for it. Errors count from `sent_at_resume`, `failed_at_resume` on.
    """

    id = AutoField()
    name = CharField(max_length=200)
    status = CharField(max_length=16)
    reason = CharField(max_length=500, null=True)
    subject = TextField()
    sender = CharField(max_length=500)
    envelope_sender = CharField(max_length=320)
    html = TextField(null=True)
    text = TextField(null=True)
    message_key = CharField(max_length=16)
    weight = IntegerField(default=1)
    served = DoubleField(default=0)
    served_from = DoubleField(default=0)
    boost = IntegerField(default=0)
    created_at = BigIntegerField()
    scheduled_at = BigIntegerField(null=True)
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
    held_until = BigIntegerField(default=0)
    held_by = CharField(max_length=500, null=True)
    queued = IntegerField(default=0)
    sent_at_resume = BigIntegerField(default=0)
    failed_at_resume = BigIntegerField(default=0)

    class Meta:
        table_name = "campaigns"


#: What lists of campaigns show: all but the message, which may be megabytes.
LISTED = [field for field in Campaign._meta.sorted_fields if field.name not in ("subject", "html", "text")]


class CampaignList(Table):
    """`unsubscribed_seen`: the list's `unsubscribed_at` as it was before its members were read."""

    campaign_id = BigIntegerField()
    position = IntegerField()
    list_id = BigIntegerField()
    scanned = IntegerField(default=0)
    created = IntegerField(default=0)
    unsubscribed_seen = BigIntegerField(default=0)

    class Meta:
        table_name = "campaign_lists"
        primary_key = CompositeKey("campaign_id", "position")


class CampaignServer(Table):
    campaign_id = BigIntegerField()
    server_id = BigIntegerField()

    class Meta:
        table_name = "campaign_servers"
        primary_key = CompositeKey("campaign_id", "server_id")


class Expansion(Table):
    """Where the expansion of a campaign is: list number `position`, behind subscriber `cursor_id`."""

    campaign_id = BigIntegerField(primary_key=True)
    state = CharField(max_length=16)
    position = IntegerField(default=0)
    cursor_id = BigIntegerField(default=0)
    token = CharField(max_length=32, null=True)
    lease_until = BigIntegerField(default=0)
    next_batch = IntegerField(default=1)
    scanned = IntegerField(default=0)
    recipients = IntegerField(default=0)
    failures = IntegerField(default=0)
    error = CharField(max_length=500, null=True)
    updated_at = BigIntegerField()

    class Meta:
        table_name = "expansions"


class Batch(Table):
    """The unit that a worker leases. The counters add up to the batch's size."""

    campaign_id = BigIntegerField()
    number = IntegerField()
    state = CharField(max_length=8)
    ready_at = BigIntegerField()
    token = CharField(max_length=32, null=True)
    settled_token = CharField(max_length=32, null=True)
    journal = CharField(max_length=200, null=True)
    lease_until = BigIntegerField(null=True)
    leased_count = IntegerField(default=0)
    pending = IntegerField()
    sent = IntegerField(default=0)
    failed = IntegerField(default=0)
    skipped = IntegerField(default=0)
    unknown = IntegerField(default=0)
    finished_at = BigIntegerField(null=True)

    class Meta:
        table_name = "batches"
        primary_key = CompositeKey("campaign_id", "number")


class Recipient(Table):
    """One person of one campaign. `attempts` counts tries that reached the server."""

    campaign_id = BigIntegerField()
    subscriber_id = BigIntegerField()
    batch = IntegerField()
    state = CharField(max_length=8, default="pending")
    attempts = SmallIntegerField(default=0)
    crashes = SmallIntegerField(default=0)
    server_id = BigIntegerField(null=True)
    reason = CharField(max_length=500, null=True)
    tried_at = BigIntegerField(null=True)

    class Meta:
        table_name = "recipients"
        primary_key = CompositeKey("campaign_id", "subscriber_id")


class Token(Table):
    """A key to the API. `hash`: SHA-256 of it in hex; its 256 random bits need no slower hash."""

    id = AutoField()
    name = CharField(max_length=100, unique=True)
    scope = CharField(max_length=8)
    hash = CharField(max_length=64, unique=True)
    created_at = BigIntegerField()
    last_used_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)

    class Meta:
        table_name = "tokens"


TABLES: tuple[type[Any], ...] = (
    Subscriber,
    List,
    Membership,
    Server,
    Campaign,
    CampaignList,
    CampaignServer,
    Expansion,
    Batch,
    Recipient,
    Token,
)
