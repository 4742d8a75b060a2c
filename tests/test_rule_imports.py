"""Files of rules of suppression as jobs: like those of people, nothing is lost, and everybody meant is blocked."""

from __future__ import annotations

import threading
import time

import pytest

from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.lists import rule_file, suppressing
from app.lists.import_kinds import NO_LIST
from app.lists.import_run import Run, work_off
from app.lists.jobs import Import, cancel_import, find_import, imports, submit, take_next
from app.lists.suppressing import is_any_opening, listed, reach_all
from app.mail.suppression import parse_rule
from app.models.states import ImportState
from tests.sending import add_list, add_people
from tests.test_imports import rejected_lines, stops_after


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_file, "ROWS_A_CHUNK", 10)


def upload(db: Db, settings: Settings, text: str, reason: str = "complaints") -> int:
    settings.uploads.mkdir(exist_ok=True)
    stored = f"r{time.monotonic_ns()}"
    (settings.uploads / stored).write_text(text)
    return submit(
        db, settings, stored, list_id=NO_LIST, file_name="rules.csv", encoding=None, who="me", now=db.now_ms(),
        reason=reason,
    )  # fmt: skip


def rules(count: int, bad_every: int = 0) -> str:
    """So many addresses without a header; every so manyth is none."""
    return "".join(
        f"nobody@{i}\n" if bad_every and i % bad_every == 0 else f"p{i}@example.test\n" for i in range(1, count + 1)
    )


def figures(found: Import) -> tuple[int, int, int, int, int]:
    assert found.rows_read == found.created + found.updated + found.unchanged + found.rejected
    return found.rows_read, found.created, found.unchanged, found.rejected, found.blocked


def blocked(db: Db) -> int:
    return int(db.value("SELECT COUNT(*) FROM subscribers WHERE status = 'blocked'"))


def test_addresses_and_domains_block_whom_they_mean(db: Db, settings: Settings) -> None:
    add_list(db, "all", add_people(db, 30))
    import_id = upload(db, settings, rules(25, bad_every=10) + "p1@example.test\n@EXAMPLE.test\n")
    assert find_import(db, import_id).is_rules
    assert work_off(db, settings, threading.Event()) == 1
    done = find_import(db, import_id)
    assert (done.state, done.error, figures(done)) == (ImportState.DONE, None, (27, 24, 1, 2, 30))
    assert blocked(db) == 30
    assert not is_any_opening(db)
    assert rejected_lines(settings, import_id) == [10, 20]
    assert {one.reason for one in listed(db)} == {"complaints"}
    assert next(str(one.rule) for one in listed(db)) == "@example.test"

    again = upload(db, settings, "address,reason\np1@example.test,other\nnew@example.test,they said so\n")
    work_off(db, settings, threading.Event())
    assert figures(find_import(db, again)) == (2, 1, 1, 0, 0)
    assert {str(one.rule): one.reason for one in listed(db)}["new@example.test"] == "they said so"


def test_a_worker_that_is_to_stop_leaves_it_and_the_next_one_goes_on_there(db: Db, settings: Settings) -> None:
    add_list(db, "all", add_people(db, 95))
    import_id = upload(db, settings, rules(95, bad_every=7))
    work_off(db, settings, stops_after(db, import_id, 40))
    left = find_import(db, import_id)
    assert left.state is ImportState.WAITING
    assert 40 <= left.rows_read < 60
    work_off(db, settings, threading.Event())
    assert figures(find_import(db, import_id)) == (95, 82, 0, 13, 82)
    assert rejected_lines(settings, import_id) == list(range(7, 96, 7))
    assert blocked(db) == 82


def test_who_was_silent_for_a_whole_lease_adds_nothing_more(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rules(30))
    silent = take_next(db, settings, db.now_ms())
    assert silent is not None
    assert take_next(db, settings, db.now_ms() + settings.lease_seconds * 1000 + 1) is not None
    Run(db, settings, silent).go(threading.Event())
    assert find_import(db, import_id).rows_read == 0
    assert list(listed(db)) == []


def test_before_there_is_any_list_rules_are_imported_all_the_same(db: Db, settings: Settings) -> None:
    """On MySQL there is no turn to take then: each chunk is said twice, and counted once."""
    import_id = upload(db, settings, rules(25))
    work_off(db, settings, threading.Event())
    assert figures(find_import(db, import_id)) == (25, 25, 0, 0, 0)
    assert len(list(listed(db))) == 25


def test_one_that_is_cancelled_while_it_reaches_people_leaves_the_rest_to_the_tick(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressing, "PAGE", 5)
    add_list(db, "all", add_people(db, 30))
    import_id = upload(db, settings, "@example.test\n")
    taken = take_next(db, settings, db.now_ms())
    assert taken is not None
    block_page = suppressing._block_page

    def and_cancel(db: Db, domains: set[str], after: str) -> tuple[int, str | None]:
        if find_import(db, import_id).state is ImportState.RUNNING:
            cancel_import(db, import_id, db.now_ms())
        return block_page(db, domains, after)

    monkeypatch.setattr(suppressing, "_block_page", and_cancel)
    Run(db, settings, taken).go(threading.Event())
    assert find_import(db, import_id).state is ImportState.CANCELLED
    assert 0 < blocked(db) < 30
    assert is_any_opening(db)
    reach_all(db)
    assert blocked(db) == 30


@pytest.mark.parametrize("text", ["", "name,city\nAnn,Oslo\n", "email,address\na@x.test,b@x.test\n", "PK\x03\x04zip"])
def test_a_file_that_cannot_be_used_is_refused_before_it_waits(db: Db, settings: Settings, text: str) -> None:
    with pytest.raises(UsageError):
        upload(db, settings, text)
    assert imports(db, 10) == []


def test_imports_of_rules_are_listed_apart_from_those_of_a_list(db: Db, settings: Settings) -> None:
    first = upload(db, settings, rules(1))
    second = upload(db, settings, rules(1))
    assert [one.id for one in imports(db, 10, None, NO_LIST)] == [second, first]
    assert imports(db, 10, None, add_list(db, "all", [])) == []


def test_a_domain_of_its_own_letters_is_folded(db: Db, settings: Settings) -> None:
    upload(db, settings, "domain\nBücher.example\n")
    work_off(db, settings, threading.Event())
    assert [one.rule for one in listed(db)] == [parse_rule("@xn--bcher-kva.example")]
