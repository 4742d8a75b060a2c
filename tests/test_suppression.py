"""Rules of suppression: whom they hold for, who is blocked by them, and what happens beside an import."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import in_utc
from app.db import Db, connect
from app.lists import suppressing
from app.lists.importing import import_csv
from app.lists.memberships import forget
from app.lists.people import IMPORTED
from app.lists.suppressing import Added, Removed, Wanted, add_rules, listed, reach_all, remove_rule
from app.lists.turn import take_turn
from app.mail.address import BadAddress
from app.mail.suppression import covering, domains_of, find_rule, opening_rules_for, parse_rule, rules_for
from tests.sending import add_people


def load(db: Db, tmp_path: Path, *addresses: str, header: str = "email", to: str = "news") -> None:
    text = "\n".join((header, *addresses))
    import_csv(db, io.BytesIO(text.encode()), list_to=to, rejects_in=tmp_path, file_name="people.csv")


def add(db: Db, *rules: str) -> int:
    """Add rules as the command does; how many subscribers that blocked."""
    return add_rules(db, [Wanted(parse_rule(rule), "test") for rule in rules]).blocked + reach_all(db)


def remove(db: Db, rule: str) -> Removed:
    return remove_rule(db, parse_rule(rule))


def blocked(db: Db) -> dict[str, str]:
    """Who is not active, with the reason."""
    return dict(db.rows("SELECT email_key, status_reason FROM subscribers WHERE status <> 'active' ORDER BY id"))


@pytest.mark.parametrize(
    ("text", "shown", "kind"),
    [
        ("Ann@Example.COM", "ann@example.com", "address"),
        (" ДИМА@x.test ", "дима@x.test", "address"),
        ("@Example.com", "@example.com", "domain"),
        ("@MÜNCHEN.de", "@xn--mnchen-3ya.de", "domain"),
        ("@localhost", "@localhost", "domain"),
    ],
)
def test_a_rule_is_an_address_or_a_domain(text: str, shown: str, kind: str) -> None:
    rule = parse_rule(text)
    assert (str(rule), rule.kind) == (shown, kind)


@pytest.mark.parametrize(
    "text", ["", "@", "ann", "example.com", "@com", "@a b.test", "@x@y.test", "@*.x.test", "a@b@c.test"]
)
def test_what_is_neither_is_refused_with_the_right_way_to_write_it(text: str) -> None:
    with pytest.raises(BadAddress, match=r"@|address"):
        parse_rule(text)


def test_a_domain_covers_what_is_below_it_and_nothing_that_only_looks_like_it() -> None:
    assert covering("ann@example.com", {"example.com"}) == "example.com"
    assert covering("ann@mail.eu.example.com", {"example.com"}) == "example.com"
    assert covering("ann@mail.example.com", {"example.com", "mail.example.com"}) == "mail.example.com"
    for key in (
        "ann@notexample.com",
        "example.com@x.test",
        "ann@example.com.test",
        "ann@com",
        '"a@example.com"@x.test',
    ):
        assert covering(key, {"example.com"}) is None


@given(st.lists(st.from_regex(r"[a-z]{1,3}", fullmatch=True), min_size=1, max_size=5))
def test_the_domains_of_an_address_are_its_own_and_those_above(labels: list[str]) -> None:
    domain = ".".join(labels)
    found = list(domains_of(f"x@{domain}"))
    assert found[0] == domain
    assert all(domain.endswith(f".{above}") for above in found[1:])
    assert len(found) == max(1, len(labels) - 1)


def test_rules_reach_those_who_are_subscribed_already(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "Ann@x.test", "bob@x.test", "cid@mail.y.test", "dan@y.test", "eve@noty.test")
    assert add(db, "ANN@X.test") == 1
    assert add(db, "@y.test") == 2
    assert blocked(db) == {
        "ann@x.test": "blocked: address rule",
        "cid@mail.y.test": "blocked: domain rule @y.test",
        "dan@y.test": "blocked: domain rule @y.test",
    }
    assert add(db, "ann@x.test", "@y.test") == 0
    assert [(str(one.rule), one.rule.kind, one.reason) for one in listed(db)] == [
        ("@y.test", "domain", "test"),
        ("ann@x.test", "address", "test"),
    ]


def test_removing_a_rule_frees_those_whom_it_alone_kept(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "a@x.test", "b@x.test", "c@sub.x.test", "d@y.test", "e@x.test,blocked", header="email,status")
    load(db, tmp_path, "a@x.test", "b@x.test", "c@sub.x.test", "d@y.test")
    add(db, "@x.test")
    add(db, "b@x.test", "@sub.x.test", "d@y.test")
    assert remove(db, "@x.test") == Removed(True, 1)
    assert blocked(db) == {
        "b@x.test": "blocked: address rule",
        "c@sub.x.test": "blocked: domain rule @sub.x.test",
        "d@y.test": "blocked: address rule",
        "e@x.test": IMPORTED,
    }
    assert remove(db, "d@y.test") == Removed(True, 1)
    assert remove(db, "d@y.test") == Removed(False, 0)
    assert remove(db, "@sub.x.test") == Removed(True, 1)
    assert "c@sub.x.test" not in blocked(db)


def test_who_was_blocked_for_another_reason_is_not_freed(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "a@x.test", "b@x.test", "c@x.test")
    db.run("UPDATE subscribers SET status = 'bounced', status_reason = 'bounced: test' WHERE email = 'b@x.test'")
    forget(db, "c@x.test")
    add(db, "@x.test")
    load(db, tmp_path, "a@x.test,blocked", header="email,status")
    assert remove(db, "@x.test") == Removed(True, 0)
    assert blocked(db) == {"a@x.test": IMPORTED, "b@x.test": "bounced: test", "c@x.test": None}


def test_an_address_that_bounced_can_be_given_another_chance(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "a@x.test", "b@y.test")
    db.run("UPDATE subscribers SET status = 'bounced', status_reason = 'bounced: test', bounces = 3")
    assert remove(db, "a@x.test") == Removed(False, 1)
    add(db, "@y.test")
    assert remove(db, "b@y.test") == Removed(False, 0)
    assert blocked(db) == {"b@y.test": "blocked: domain rule @y.test"}
    assert db.value("SELECT bounces FROM subscribers WHERE email = 'a@x.test'") == 0


def test_an_import_blocks_newcomers_and_those_who_come_back(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "old@x.test")
    forget(db, "old@x.test")
    add(db, "@x.test", "ann@y.test")
    load(db, tmp_path, "old@x.test", "new@mail.x.test", "ANN@y.test", "free@y.test", "ann@y.test")
    assert blocked(db) == {
        "old@x.test": "blocked: domain rule @x.test",
        "new@mail.x.test": "blocked: domain rule @x.test",
        "ann@y.test": "blocked: address rule",
    }
    remove(db, "@x.test")
    load(db, tmp_path, "old@x.test", "newer@x.test")
    assert list(blocked(db)) == ["ann@y.test"]


def test_going_through_the_subscribers_takes_pages(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressing, "PAGE", 7)
    add_people(db, 30)
    add_people(db, 20, prefix="q")
    db.run("UPDATE subscribers SET email_key = REPLACE(email_key, 'example.test', 'm.other.test') WHERE id > 30")
    assert add(db, "@other.test") == 20
    assert set(blocked(db)) == {f"q{i}@m.other.test" for i in range(1, 21)}
    assert remove(db, "@other.test") == Removed(True, 20)
    assert blocked(db) == {}


def test_many_domains_at_once_are_found_in_one_pass(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, *(f"p{i}@m.d{i}.test" for i in range(60)))
    assert add(db, *(f"@d{i}.test" for i in range(0, 60, 2))) == 30
    assert set(blocked(db)) == {f"p{i}@m.d{i}.test" for i in range(0, 60, 2)}
    assert blocked(db)["p4@m.d4.test"] == "blocked: domain rule @d4.test"


def test_the_list_of_rules_is_read_in_pieces(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressing, "LISTED_AT_ONCE", 3)
    add(db, *(f"p{i}@x.test" for i in range(8)), "@a.test", "@b.test", "@c.test")
    assert [str(one.rule) for one in listed(db)] == [
        "@a.test",
        "@b.test",
        "@c.test",
        *(f"p{i}@x.test" for i in range(8)),
    ]


def test_a_rule_that_has_not_reached_everybody_holds_already(db: Db, tmp_path: Path) -> None:
    """Whoever added it was killed behind the first transaction."""
    load(db, tmp_path, "a@x.test", "b@y.test")
    assert add_rules(db, [Wanted(parse_rule("@x.test"), "test")]) == Added(1, 0)
    ids = {str(key): int(id_) for id_, key in db.rows("SELECT id, email_key FROM subscribers")}
    assert opening_rules_for(db, list(ids.values())) == {ids["a@x.test"]: "blocked: domain rule @x.test"}
    assert str(rules_for(db, ["a@x.test"])["a@x.test"]) == "@x.test"
    load(db, tmp_path, "new@x.test")
    assert list(blocked(db)) == ["new@x.test"]
    assert [one.rule.kind for one in listed(db)] == ["domain"]
    # The next rule, whatever it is for, completes it.
    assert add(db, "b@y.test") == 2
    assert len(blocked(db)) == 3
    assert opening_rules_for(db, list(ids.values())) == {}


def test_a_rule_that_is_removed_and_added_again_meanwhile_goes_through_all_again(
    db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressing, "PAGE", 2)
    load(db, tmp_path, *(f"p{i}@x.test" for i in range(6)))
    pages = suppressing._block_page

    def meddle(*arguments: object) -> tuple[int, str | None]:
        done = pages(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(suppressing, "_block_page", pages)
        assert remove(db, "@x.test").removed
        db.run("UPDATE suppressions SET created_at = created_at - 1000")
        add_rules(db, [Wanted(parse_rule("@x.test"), "again")])
        db.run("UPDATE suppressions SET created_at = created_at + 1000")
        return done

    monkeypatch.setattr(suppressing, "_block_page", meddle)
    add(db, "@x.test")
    reach_all(db)
    assert len(blocked(db)) == 6


def test_a_rule_tells_since_when_and_why(db: Db) -> None:
    before = db.now_ms()
    add(db, "@x.test")
    found = find_rule(db, parse_rule("@X.test"))
    assert found is not None
    assert str(found) == f"domain rule @x.test since {in_utc(found.created_at)} (test)"
    assert before <= found.created_at <= db.now_ms()
    assert find_rule(db, parse_rule("a@x.test")) is None


@pytest.fixture
def second(database_url: str) -> Iterator[Db]:
    """Another process's connection."""
    db = connect(database_url)
    yield db
    db.close()


@pytest.mark.parametrize("rule", ["@x.test", "p@x.test"])
def test_an_import_beside_a_new_rule_leaves_nobody_active(db: Db, second: Db, tmp_path: Path, rule: str) -> None:
    """The import has read the rules and has not committed when the rule is added."""
    load(db, tmp_path, "other@y.test")
    go_on, read = threading.Event(), threading.Event()
    importing = threading.Thread(target=_slow_import, args=(second, tmp_path, read, go_on))
    importing.start()
    assert read.wait(30)
    done: list[int] = []
    adding = threading.Thread(target=lambda: done.append(add(db, rule)))
    adding.start()
    # Now it waits for the import, or is through before the import commits; in which order, the machine decides.
    adding.join(0.5)
    go_on.set()
    importing.join(60)
    adding.join(60)
    assert blocked(db) == {"p@x.test": parse_rule(rule).reason}
    assert done == [1]


def test_the_very_first_import_beside_a_new_rule_leaves_nobody_active(
    db: Db, second: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no list to take turns with when the rule's transaction began."""
    if db.dialect == "sqlite":
        pytest.skip("there is one writer at a time, with and without a list")
    go_on, read = threading.Event(), threading.Event()
    importing = threading.Thread(target=_slow_import, args=(second, tmp_path, read, go_on))
    add_first = suppressing.add_in_turn

    def beside_an_import(db: Db, wanted: Sequence[Wanted]) -> Added:
        if not importing.ident:
            importing.start()
            assert read.wait(30)
            threading.Timer(0.5, go_on.set).start()
        return add_first(db, wanted)

    monkeypatch.setattr(suppressing, "add_in_turn", beside_an_import)
    assert add(db, "p@x.test") == 1
    importing.join(60)
    assert blocked(db) == {"p@x.test": "blocked: address rule"}


def _slow_import(db: Db, tmp_path: Path, read: threading.Event, go_on: threading.Event) -> None:
    """An import whose chunk stops between reading the rules and writing its people."""

    def slowly(*arguments: object) -> object:
        rules = rules_for(*arguments)  # type: ignore[arg-type]
        read.set()
        assert go_on.wait(30)
        return rules

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.lists.people.rules_for", slowly)
        load(db, tmp_path, "p@x.test")
    db.close()


def test_imports_and_rules_at_full_speed_leave_nobody_active(db: Db, database_url: str, tmp_path: Path) -> None:
    load(db, tmp_path, "other@y.test")

    def imports() -> None:
        mine = connect(database_url)
        for part in range(6):
            load(mine, tmp_path / "imports", *(f"p{part}.{i}@d{i % 6}.test" for i in range(300)))
        mine.close()

    def rules() -> None:
        mine = connect(database_url)
        for domain in range(6):
            add(mine, f"@d{domain}.test")
        mine.close()

    threads = [threading.Thread(target=imports), threading.Thread(target=rules)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(blocked(db)) == 1800


def test_turns_are_taken_only_where_there_is_a_list(db: Db, tmp_path: Path) -> None:
    with db.transaction():
        assert take_turn(db) is (db.dialect == "sqlite")
    load(db, tmp_path, "a@x.test")
    with db.transaction():
        assert take_turn(db)
