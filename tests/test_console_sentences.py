"""What is wrong is told in Chinese on Chinese pages: every common mistake, and nothing that the code says otherwise."""

from __future__ import annotations

import ast
import html
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import email_validator
import pytest
from flask import Flask

from app.campaigns.lifecycle import schedule_campaign
from app.config import ROOT, Settings
from app.db import Db
from app.mail.servers import add_server
from app.schedules.users import find_or_add_user
from app.web.application import create_app
from app.web.console.sentences import in_language, sentences
from app.web.fields import without_dashes
from tests.console import Visitor, logged_in
from tests.sending import NOW, add_list, add_people, draft

CAMPAIGN = {"name": "n", "sender": "a@b.test", "subject": "s", "lists": "all", "text": "t", "weight": "1"}
TARGET = {"kind": "http", "url": "https://a.test/"}
SERVER = {"name": "n", "host": "h.test", "port": "25", "tls": "none", "timezone": "UTC", "weight": "1"}
MISTAKES: list[tuple[str, dict[str, str], str]] = [
    ("/campaigns/new", {**CAMPAIGN, "name": ""}, "名称 '' 不可用：须为 1 到 200 个字符，不能换行"),
    ("/campaigns/new", {**CAMPAIGN, "subject": " "}, "主题为空：请写明邮件内容"),
    ("/campaigns/new", {**CAMPAIGN, "sender": "me"}, "'me' 不是邮箱地址：缺少 @"),
    ("/campaigns/new", {**CAMPAIGN, "sender": "a < b"}, "'a < b' 不是邮箱地址：发件人应写作：名称 <地址>"),
    ("/campaigns/new", {**CAMPAIGN, "lists": ""}, "没有名为 '' 的列表：请先新建，并导入人员"),
    ("/campaigns/new", {**CAMPAIGN, "weight": "x"}, "份额 'x' 不可用：须为 1 到 1000 的整数"),
    ("/campaigns/new", {**CAMPAIGN, "text": ""}, "没有正文：请填写 HTML、纯文本或两者"),
    ("/campaigns/new", {**CAMPAIGN, "text": "{{ plan }}"}, "纯文本正文第 1 行：未知字段 'plan'；可用的有"),
    ("/campaigns/1/test", {"to": "me"}, "'me' 不是邮箱地址：缺少 @"),
    ("/campaigns/1/test", {"to": "me@a.test", "email": "x@y.test"}, "x@y.test 不会收到此邮件"),
    ("/campaigns/1/unschedule", {}, "活动 1 是草稿，并未排期"),
    ("/campaigns/1/pause", {}, "活动 1 是草稿，尚未发送任何邮件"),
    ("/campaigns/1/boost", {"workers": "2"}, "活动 1 没有可发送的邮件：它还是草稿，请先排期"),
    ("/campaigns/1/schedule", {"at": "soon"}, "时间无法识别：应写作 2026-11-23T09:00:00+08:00"),
    ("/campaigns/2/delete", {}, "活动 2 已排期：只有草稿可以删除"),
    ("/campaigns/99/pause", {}, "没有编号为 99 的活动"),
    ("/lists/new", {"name": ""}, "'' 不能用作列表名称：须为 1 到 200 个字符，不能换行"),
    ("/lists/new", {"name": "all"}, "已有名为 'all' 的列表"),
    ("/lists/1/import", {}, "请选择文件"),
    ("/servers/new", {**SERVER, "host": "a b"}, "须为主机名或 IP 地址"),
    ("/servers/new", {**SERVER, "port": "99999"}, "须为 1 到 65535"),
    ("/servers/new", {**SERVER, "user": "u"}, "用户名与密码变量须同时填写"),
    ("/servers/new", {**SERVER, "name": ""}, "未填写"),
    ("/suppressions/add", {"rule": "nobody"}, "'nobody' 不是邮箱地址：没有 @；整个域应写作 @example.com"),
    ("/senders/pause", {"sender": "me"}, "'me' 不是邮箱地址：缺少 @"),
    ("/schedules/1/interval", {"interval_minutes": "0"}, "间隔须为 1 到 1440 的整数分钟"),
]


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    """A draft, a campaign that is scheduled, a user."""
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 3))
    draft(db, ["all"])
    schedule_campaign(db, draft(db, ["all"]), NOW * 2, NOW)
    find_or_add_user(db, "ann@example.test", 5, db.now_ms())
    return create_app(settings, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    visitor = logged_in(app)
    visitor.client.set_cookie("mailcrew_language", "zh")
    visitor.get("/schedules")
    return visitor


def told(page: str) -> str:
    """The texts of a page that say what is wrong."""
    found = re.findall(r'<p class="(?:wrong|notice)[^>]*role="alert"[^>]*>(.*?)</p>|<p>(.*?)</p>', page, re.DOTALL)
    return html.unescape(" ".join(one or other for one, other in found))


@pytest.mark.parametrize(("path", "fields", "words"), MISTAKES, ids=[f"{m[0]} {m[2][:8]}" for m in MISTAKES])
def test_a_mistake_is_told_in_chinese(visitor: Visitor, path: str, fields: dict[str, str], words: str) -> None:
    answer = visitor.post(path, **fields)
    assert answer.status_code in (400, 404, 409), answer.text
    assert words in told(answer.text)


def test_a_script_of_ours_gets_chinese_and_a_token_english(app: Flask, visitor: Visitor) -> None:
    wrong = {"json": {"name": "all"}, "headers": {"X-CSRF-Token": visitor.token}}
    assert visitor.client.post("/api/lists", **wrong).json["error"]["message"] == "已有名为 'all' 的列表"  # type: ignore[index]
    visitor.client.set_cookie("mailcrew_language", "en")
    assert "already" in visitor.client.post("/api/lists", **wrong).json["error"]["message"]  # type: ignore[index]


def test_what_nobody_has_translated_stays_as_it_is(app: Flask) -> None:
    with app.test_request_context(headers={"Accept-Language": "zh"}):
        assert in_language("the moon is not in reach") == "the moon is not in reach"
        assert in_language("'x' is not an email address: of some new kind") == "'x' 不是邮箱地址：of some new kind"
        assert in_language("'1 to 5' is not an email address: it contains a space") == "'1 to 5' 不是邮箱地址：含有空格"
        assert in_language(None) == ""


def fields(pattern: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(pattern) if name}


def test_chinese_fills_in_what_there_is() -> None:
    known = sentences("zh")
    assert {english for english, (_, words) in known.items() if not fields(words) <= fields(english)} == set()
    assert {english for english, (_, words) in known.items() if not re.search("[\u4e00-\u9fff]", words)} == set()


@cache
def spoken() -> str:
    """All that the code says, and the library that looks at addresses."""
    files = [*(ROOT / "app").rglob("*.py"), *Path(email_validator.__file__).parent.glob("*.py")]
    return "\n".join(text for path in files for text in constants(ast.parse(path.read_text())))


def constants(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield without_dashes(node.value)


@pytest.mark.parametrize("english", sentences("zh"))
def test_every_sentence_is_one_that_the_code_says(english: str) -> None:
    longest = max(re.split(r"\{\w+\}", english), key=len)
    assert longest.strip(" :;") in spoken()
