"""Lists, servers, campaigns, batches and recipients.

Written as SQL because two things decide speed and cannot be left to a generator: which column
order clusters a table, and that a deleted id is never used again (AUTOINCREMENT on SQLite).
Instants are whole milliseconds since 1970 UTC, so both databases compare and index them alike.
Text compares by bytes on both.
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
CREATE TABLE subscribers (
    id {id},
    email VARCHAR(320) NOT NULL,
    email_key VARCHAR(320) NOT NULL,
    name VARCHAR(200) NOT NULL DEFAULT '',
    attributes {long} NOT NULL,
    status VARCHAR(16) NOT NULL DEFAULT 'active',
    created_at {big} NOT NULL,
    updated_at {big} NOT NULL
{table};
CREATE UNIQUE INDEX subscribers_email_key ON subscribers (email_key);

CREATE TABLE lists (
    id {id},
    name VARCHAR(200) NOT NULL,
    created_at {big} NOT NULL
{table};
CREATE UNIQUE INDEX lists_name ON lists (name);

CREATE TABLE memberships (
    list_id {big} NOT NULL,
    subscriber_id {big} NOT NULL,
    status VARCHAR(16) NOT NULL,
    created_at {big} NOT NULL,
    updated_at {big} NOT NULL,
    PRIMARY KEY (list_id, subscriber_id)
{clustered};
CREATE INDEX memberships_expansion ON memberships (list_id, status, subscriber_id);
CREATE INDEX memberships_subscriber ON memberships (subscriber_id);

CREATE TABLE servers (
    id {id},
    name VARCHAR(100) NOT NULL,
    host VARCHAR(253) NOT NULL,
    port INTEGER NOT NULL,
    tls VARCHAR(8) NOT NULL,
    tls_ca VARCHAR(500) NULL,
    username VARCHAR(200) NULL,
    password_env VARCHAR(100) NULL,
    per_second INTEGER NULL,
    per_minute INTEGER NULL,
    per_hour INTEGER NULL,
    per_day INTEGER NULL,
    max_connections INTEGER NULL,
    state VARCHAR(16) NOT NULL DEFAULT 'active',
    cooldown_until {big} NULL,
    cooldown_reason VARCHAR(500) NULL,
    created_at {big} NOT NULL
{table};
CREATE UNIQUE INDEX servers_name ON servers (name);

CREATE TABLE campaigns (
    id {id},
    name VARCHAR(200) NOT NULL,
    status VARCHAR(16) NOT NULL,
    reason VARCHAR(500) NULL,
    subject {long} NOT NULL,
    sender VARCHAR(500) NOT NULL,
    envelope_sender VARCHAR(320) NOT NULL,
    html {long} NULL,
    text {long} NULL,
    message_key CHAR(16) NOT NULL,
    weight INTEGER NOT NULL DEFAULT 1,
    served DOUBLE NOT NULL DEFAULT 0,
    served_from DOUBLE NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    scheduled_at {big} NULL,
    started_at {big} NULL,
    finished_at {big} NULL
{table};
CREATE INDEX campaigns_status ON campaigns (status, scheduled_at);

CREATE TABLE campaign_lists (
    campaign_id {big} NOT NULL,
    position INTEGER NOT NULL,
    list_id {big} NOT NULL,
    scanned INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, position)
{clustered};

CREATE TABLE campaign_servers (
    campaign_id {big} NOT NULL,
    server_id {big} NOT NULL,
    PRIMARY KEY (campaign_id, server_id)
{clustered};

CREATE TABLE expansions (
    campaign_id {big} NOT NULL PRIMARY KEY,
    state VARCHAR(16) NOT NULL,
    position INTEGER NOT NULL DEFAULT 0,
    cursor_id {big} NOT NULL DEFAULT 0,
    token CHAR(32) NULL,
    lease_until {big} NOT NULL DEFAULT 0,
    next_batch INTEGER NOT NULL DEFAULT 1,
    scanned INTEGER NOT NULL DEFAULT 0,
    recipients INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    error VARCHAR(500) NULL,
    updated_at {big} NOT NULL
{clustered};
CREATE INDEX expansions_state ON expansions (state, lease_until);

CREATE TABLE batches (
    campaign_id {big} NOT NULL,
    number INTEGER NOT NULL,
    state VARCHAR(8) NOT NULL,
    ready_at {big} NOT NULL,
    token CHAR(32) NULL,
    settled_token CHAR(32) NULL,
    journal VARCHAR(200) NULL,
    lease_until {big} NULL,
    leased_count INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    finished_at {big} NULL,
    PRIMARY KEY (campaign_id, number)
{clustered};
CREATE INDEX batches_ready ON batches (campaign_id, state, ready_at, number);
CREATE INDEX batches_leases ON batches (state, lease_until);

CREATE TABLE recipients (
    campaign_id {big} NOT NULL,
    subscriber_id {big} NOT NULL,
    batch INTEGER NOT NULL,
    state VARCHAR(8) NOT NULL DEFAULT 'pending',
    attempts SMALLINT NOT NULL DEFAULT 0,
    crashes SMALLINT NOT NULL DEFAULT 0,
    server_id {big} NULL,
    reason VARCHAR(500) NULL,
    tried_at {big} NULL,
    PRIMARY KEY (campaign_id, subscriber_id)
{clustered};
CREATE INDEX recipients_batch ON recipients (campaign_id, batch);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))
