"""Limits and trouble of servers and senders, suppression, bounces, what was tried each minute, notices.

`deliveries` counts attempts by server, minute and campaign: what limits are counted again from after
Redis lost them, and what pages plot. `held_until` of a campaign: none of its servers may send before.
`queued`: something of it has been ready ever since its last lease (`app/campaigns/turns.py`).
`sent_at_resume`, `failed_at_resume`: what it had sent and failed when a person last let it go on; errors are counted
from there.
"""

from __future__ import annotations

from typing import Any

MYSQL = {
    "id": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    "big": "BIGINT",
    "long": "MEDIUMTEXT",
    "table": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "clustered": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
}
SQLITE = {
    "id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "big": "INTEGER",
    "long": "TEXT",
    "table": ")",
    "clustered": ") WITHOUT ROWID",
}

STATEMENTS = """
ALTER TABLE servers ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
ALTER TABLE servers ADD COLUMN timezone VARCHAR(64) NOT NULL DEFAULT 'UTC';
ALTER TABLE servers ADD COLUMN cooldown_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN trial_until {big} NULL;

ALTER TABLE campaigns ADD COLUMN held_until {big} NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN held_by VARCHAR(500) NULL;
ALTER TABLE campaigns ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN sent_at_resume {big} NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN failed_at_resume {big} NOT NULL DEFAULT 0;

ALTER TABLE subscribers ADD COLUMN bounces INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscribers ADD COLUMN status_reason VARCHAR(500) NULL;
CREATE INDEX subscribers_status ON subscribers (status, id);

ALTER TABLE lists ADD COLUMN unsubscribed_at {big} NULL;
ALTER TABLE campaign_lists ADD COLUMN unsubscribed_seen {big} NOT NULL DEFAULT 0;

CREATE TABLE sender_cooldowns (
    server_id {big} NOT NULL,
    sender VARCHAR(320) NOT NULL,
    cooldown_until {big} NOT NULL,
    cooldown_reason VARCHAR(500) NOT NULL,
    cooldown_step INTEGER NOT NULL,
    trial_until {big} NULL,
    PRIMARY KEY (server_id, sender)
{clustered};

CREATE TABLE paused_senders (
    sender VARCHAR(320) NOT NULL PRIMARY KEY,
    reason VARCHAR(500) NOT NULL,
    paused_at {big} NOT NULL
{clustered};

CREATE TABLE domain_limits (
    domain VARCHAR(253) NOT NULL PRIMARY KEY,
    per_second INTEGER NULL,
    per_minute INTEGER NULL,
    per_hour INTEGER NULL,
    per_day INTEGER NULL,
    created_at {big} NOT NULL
{clustered};

CREATE TABLE suppressions (
    kind VARCHAR(8) NOT NULL,
    value VARCHAR(320) NOT NULL,
    reason VARCHAR(500) NOT NULL,
    created_at {big} NOT NULL,
    PRIMARY KEY (kind, value)
{clustered};

CREATE TABLE deliveries (
    server_id {big} NOT NULL,
    minute INTEGER NOT NULL,
    campaign_id {big} NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    deferred INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (server_id, minute, campaign_id)
{clustered};
CREATE INDEX deliveries_campaign ON deliveries (campaign_id, minute);
CREATE INDEX deliveries_minute ON deliveries (minute);

CREATE TABLE notices (
    id {id},
    kind VARCHAR(8) NOT NULL,
    target VARCHAR(500) NOT NULL,
    subject VARCHAR(500) NOT NULL,
    body {long} NOT NULL,
    state VARCHAR(8) NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at {big} NOT NULL,
    lease_until {big} NULL,
    token CHAR(32) NULL,
    error VARCHAR(500) NULL,
    created_at {big} NOT NULL,
    finished_at {big} NULL
{table};
CREATE INDEX notices_due ON notices (state, next_at);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))
