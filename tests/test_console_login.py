"""The front door: who is let in, for how long, and what keeps others out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.secrets import secret, secret_file
from app.web import attempts, sessions
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.login import local
from app.web.resources import EXTENSION
from tests.console import BROWSER, Visitor, come_in
from tests.web import Caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def password(settings: Settings) -> str:
    return secret(settings, "ADMIN_PASSWORD")


def cookies_of(visitor: Visitor) -> dict[str, str]:
    return {cookie.key: cookie.value for cookie in (visitor.client._cookies or {}).values()}


def test_who_has_not_logged_in_is_led_to_the_login_and_then_to_the_page(app: Flask, password: str) -> None:
    visitor = Visitor(app)
    led = visitor.get("/queues?x=1")
    assert (led.status_code, led.headers["Location"]) == (303, "/login?next=/queues%3Fx%3D1")
    visitor.get(led.headers["Location"])
    come = visitor.post("/login", password=password, next="/queues?x=1")
    assert (come.status_code, come.headers["Location"]) == (303, "/queues?x=1")
    assert visitor.get("/queues").status_code == 200
    assert visitor.get("/login?next=/workers").headers["Location"] == "/workers", "no need to log in twice"


def test_a_program_that_is_not_logged_in_gets_an_error_in_the_one_shape(app: Flask) -> None:
    response = Caller(app).get("/queues")
    assert response.status_code == 401
    assert error_of(response)["code"] == "unauthorized"


def test_a_part_of_a_page_whose_session_is_over_has_the_page_load_again(app: Flask) -> None:
    response = Visitor(app).get("/queues/live", **{"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Refresh"]) == (401, "true")


def test_the_password_is_made_once_for_our_eyes_only(app: Flask, settings: Settings, password: str) -> None:
    file = secret_file(settings, "ADMIN_PASSWORD")
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(password) >= 40
    assert come_in(app).get("/").status_code == 200


@pytest.mark.parametrize("wrong", ["", "x", "password", "admin", "\0", "密码", "x" * 5000])
def test_a_wrong_password_lets_nobody_in(app: Flask, wrong: str) -> None:
    visitor = Visitor(app)
    visitor.get("/login")
    assert visitor.post("/login", password=wrong).status_code == 401
    assert visitor.get("/queues").status_code == 303
    assert not any("session" in name for name in cookies_of(visitor))


def test_a_login_that_did_not_come_from_our_page_is_refused(app: Flask, password: str) -> None:
    """Another site could otherwise log somebody in as it likes."""
    stranger, visitor = Visitor(app), Visitor(app)
    stranger.get("/login")
    assert visitor.client.post("/login", data={"password": password}, headers=BROWSER).status_code == 403
    visitor.get("/login")
    assert visitor.post("/login", password=password, csrf=stranger.token).status_code == 403
    assert visitor.get("/queues").status_code == 303


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "", "/a\nb", "\\\\evil"]
)
def test_after_the_login_nobody_is_led_to_another_site(path: str) -> None:
    assert local(path) == "/"
    assert local("/queues?a=b") == "/queues?a=b"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_is_hidden_from_scripts_and_other_sites_and_with_tls_from_the_line(
    app: Flask, password: str, scheme: str
) -> None:
    client = app.test_client()
    page = client.get("/login", base_url=f"{scheme}://localhost")
    token = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    response = client.post("/login", data={"csrf": token, "password": password}, base_url=f"{scheme}://localhost")
    (cookie,) = [value for value in response.headers.getlist("Set-Cookie") if "session" in value]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) == (scheme == "https")
    assert password not in cookie


def test_a_copy_of_the_cookie_is_worth_nothing_after_the_logout(app: Flask, db: Db, settings: Settings) -> None:
    visitor = come_in(app)
    visitor.get("/queues")
    copies = cookies_of(visitor)
    left = visitor.post("/logout")
    assert (left.status_code, left.headers["Location"]) == (303, "/login")
    for again in (app, create_app(settings, db=db)):  # also in another process
        thief = again.test_client()
        for name, value in copies.items():
            thief.set_cookie(name, value)
        assert thief.get("/queues", headers=BROWSER).status_code == 303


def test_a_new_password_ends_every_session(app: Flask, db: Db, settings: Settings) -> None:
    visitor = come_in(app)
    secret_file(settings, "ADMIN_PASSWORD").write_text("another-one\n")
    later = create_app(settings, db=db).test_client()
    for name, value in cookies_of(visitor).items():
        later.set_cookie(name, value)
    assert later.get("/queues", headers=BROWSER).status_code == 303


@pytest.mark.parametrize("spoiled", ["", "x", "W10.x", "{cookie}x", "x{cookie}"])
def test_a_cookie_that_is_not_ours_is_no_login(app: Flask, spoiled: str) -> None:
    visitor = come_in(app)
    (name,) = [name for name in cookies_of(visitor) if "session" in name]
    visitor.client.set_cookie(name, spoiled.format(cookie=cookies_of(visitor)[name]))
    assert visitor.get("/queues").status_code == 303


def test_a_session_ends_when_nobody_uses_it_and_when_it_is_old(app: Flask) -> None:
    kept = app.extensions[EXTENSION].sessions
    fresh = kept.begin()
    idle = sessions.Session(fresh.id, fresh.began, fresh.used - sessions.IDLE_SECONDS)
    old = sessions.Session(fresh.id, fresh.began - sessions.LONGEST_SECONDS, fresh.used)
    assert kept.read(kept.sign(fresh)) == fresh
    assert kept.read(kept.sign(idle)) is None
    assert kept.read(kept.sign(old)) is None


def test_who_works_on_stays_logged_in_and_a_page_that_only_looks_does_not_count(app: Flask) -> None:
    kept = app.extensions[EXTENSION].sessions
    begun = kept.begin()
    earlier = sessions.Session(begun.id, begun.began, begun.used - sessions.RENEW_SECONDS)
    client = app.test_client()
    client.set_cookie(kept.cookie, kept.sign(earlier))
    assert "Set-Cookie" not in client.get("/queues/live").headers
    renewed = client.get("/queues").headers["Set-Cookie"]
    value = renewed.partition("=")[2].partition(";")[0]
    assert kept.read(value).used >= begun.used


def test_too_many_tries_from_one_address_are_refused_by_every_process(
    app: Flask, db: Db, settings: Settings, password: str
) -> None:
    other = create_app(settings, db=db)
    for number in range(attempts.EACH_ADDRESS):
        visitor = Visitor((app, other)[number % 2])
        visitor.get("/login")
        assert visitor.post("/login", password="wrong").status_code == 401
    for one in (app, other):
        visitor = Visitor(one)
        visitor.get("/login")
        refused = visitor.post("/login", password=password)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"]
    elsewhere = Visitor(app)
    elsewhere.client.environ_base["REMOTE_ADDR"] = "10.0.0.9"
    elsewhere.get("/login")
    assert elsewhere.post("/login", password=password).status_code == 303


def test_the_limit_of_an_address_is_over_after_its_time(db: Db) -> None:
    now = db.now_ms()
    assert [attempts.may_try(db, "10.0.0.1", now) for _ in range(attempts.EACH_ADDRESS + 2)][-3:] == [
        True,
        False,
        False,
    ]
    assert attempts.may_try(db, "10.0.0.2", now)
    assert attempts.may_try(db, "10.0.0.1", now + attempts.WINDOW_MS)


def test_a_whole_network_of_addresses_counts_as_one(db: Db) -> None:
    now = db.now_ms()
    tries = [attempts.may_try(db, f"2001:db8:0:1::{number:x}", now) for number in range(1, attempts.EACH_ADDRESS + 2)]
    assert tries[-1] is False
    assert attempts.may_try(db, "2001:db8:0:2::1", now)


def test_nobody_keeps_out_an_address_that_is_known(app: Flask, db: Db) -> None:
    come_in(app)  # from 127.0.0.1
    now = db.now_ms()
    crowd = [f"10.{number // 250}.{number % 250}.1" for number in range(attempts.EVERYBODY + 50)]
    refused = [address for address in crowd if not attempts.may_try(db, address, now)]
    assert len(refused) >= 49
    assert not attempts.may_try(db, "10.99.0.1", now), "an unknown address has to wait"
    assert attempts.may_try(db, "127.0.0.1", now)


@pytest.mark.parametrize(("proxies", "seen"), [(0, "127.0.0.1"), (1, "203.0.113.9")])
def test_a_caller_is_believed_only_behind_a_proxy_that_is(db: Db, settings: Settings, proxies: int, seen: str) -> None:
    app = create_app(replace(settings, trusted_proxies=proxies), db=db)
    client = app.test_client()
    said = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https", **BROWSER}
    token = client.get("/login", headers=said).text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = client.post("/login", data={"csrf": token, "password": "wrong"}, headers=said)
    assert entries(db, 1)[0].address == seen
    assert ("Secure" in answer.headers["Set-Cookie"]) == bool(proxies)


def test_logins_stand_in_the_audit_trail_and_no_password_does(app: Flask, db: Db, password: str) -> None:
    visitor = Visitor(app)
    visitor.get("/login")
    visitor.post("/login", password="Tr0ub4dor")
    come_in(app).post("/logout")
    trail = entries(db, 10)
    assert [(one.who, one.action) for one in trail] == [
        ("administrator", "login.leave"), ("administrator", "login"), ("nobody", "login refused")
    ]  # fmt: skip
    assert all(one.address == "127.0.0.1" for one in trail)
    assert not {"Tr0ub4dor", password} & set(str(trail).replace("'", " ").split())


def test_two_homes_on_one_machine_do_not_log_each_other_out(settings: Settings, db: Db, tmp_path: Path) -> None:
    """Cookies know no ports."""
    first = sessions.Sessions(settings, db)
    second = sessions.Sessions(replace(settings, home=tmp_path / "other"), db)
    assert first.cookie != second.cookie
    assert first.form_cookie != second.form_cookie
