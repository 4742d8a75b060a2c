"""Write a campaign, and see beside it the mail that a subscriber would get."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flask import Response, make_response, request

from app.campaigns import authoring, lifecycle
from app.campaigns.audience import known_fields
from app.campaigns.authoring import check, content_of
from app.campaigns.lifecycle import Draft, find_campaign
from app.campaigns.preview import FIRST, RANDOM, Preview, preview
from app.errors import BadField, MailcrewError, Refused, TemplateProblem, Unavailable
from app.models.states import CampaignStatus, ServerState
from app.models.tables import List, Server
from app.web.access import takes_up_to
from app.web.audit import leave_out, tell
from app.web.authoring import copied, tried
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page, render
from app.web.console.pages.campaign import PATH
from app.web.lists import counted
from app.web.query import whole
from app.web.resources import resources

page = Page("campaign_edit", under="campaigns")

#: Two parts of 1 MB each, all of whose signs a form writes as three.
LONGEST_FORM = 7 * 1024 * 1024
#: What templates may say.
EXAMPLES = ("{{ name }}", "{{ city | default('your town') }}", "{% if city %} … {% endif %}")
#: The name of a campaign that has none yet, for checking the rest.
NAMELESS = "-"

#: Of the mail itself, which is a stranger's text in a frame of ours: it may show, and do nothing else.
MAIL_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline' https:; "
    "font-src https: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
}


@page.get("/campaigns/new")
def blank() -> dict[str, Any]:
    chosen = whole("list", 0, LARGEST_ID)
    lists = [str(one.name) for one in List.select().where(List.id == chosen)] if chosen else []
    newest = resources().db.value("SELECT sender FROM campaigns ORDER BY id DESC LIMIT 1")
    return _shown(Draft(name="", subject="", sender=newest or "", lists=lists))


@page.get(f"{PATH}/edit")
def edit(campaign_id: int) -> dict[str, Any]:
    return _of(campaign_id)


@page.post("/campaigns/new", scope="send")
@takes_up_to(LONGEST_FORM)
def new() -> Response:
    db = resources().db
    try:
        campaign_id = authoring.create(db, _said(), db.now_ms())
    except (BadField, TemplateProblem) as error:
        return _again(error, **_shown(_typed()))
    tell(f"campaign {campaign_id}")
    return page.done(f"/campaigns/{campaign_id}/edit", "campaign_edit.was_saved")


@page.post(f"{PATH}/edit", scope="send")
@takes_up_to(LONGEST_FORM)
def save(campaign_id: int) -> Response:
    try:
        authoring.change(resources().db, campaign_id, vars(_said()), request.form.get("version") or None)
    except (BadField, TemplateProblem, Refused) as error:
        # Nobody's work is thrown away: with the version that is stored now, saving once more overwrites it.
        stored = _of(campaign_id)
        kept = stored["version"] if isinstance(error, Refused) else request.form.get("version", "")
        return _again(error, **{**stored, "draft": _typed(), "version": kept})
    return page.done(f"/campaigns/{campaign_id}/edit", "campaign_edit.was_saved")


@page.post(f"{PATH}/copy", scope="send")
def copy(campaign_id: int) -> Response:
    return page.done(f"/campaigns/{copied(campaign_id, None)}/edit", "campaign_edit.was_copied")


@page.post(f"{PATH}/delete", scope="send")
def delete(campaign_id: int) -> Response:
    authoring.delete(resources().db, campaign_id)
    return page.done("/campaigns", "campaign_edit.was_deleted")


@page.post(f"{PATH}/unschedule", scope="send")
def unschedule(campaign_id: int) -> Response:
    authoring.unschedule(resources().db, campaign_id)
    return page.done(f"/campaigns/{campaign_id}/edit", "campaign_edit.was_unscheduled")


@page.post(f"{PATH}/test", scope="send")
def test(campaign_id: int) -> Response:
    to = request.form.get("to", "")
    try:
        done = tried(campaign_id, to, request.form.get("email", ""), request.form.get("server", ""))
    except (BadField, TemplateProblem, Refused, Unavailable) as error:
        field = error.field if isinstance(error, BadField) and error.field in ("to", "email", "server") else "to"
        return _again(error, f"test_{field}", **{**_of(campaign_id), "to": to})
    return page.done(
        f"/campaigns/{campaign_id}/edit", "campaign_edit.was_tried", to=done.to, server=done.server, reply=done.reply
    )


@page.post("/campaigns/preview/about", scope="send")
@takes_up_to(LONGEST_FORM)
def about() -> Response:
    """All but the HTML of the mail: a part of the page."""
    try:
        seen = _preview()
    except (BadField, TemplateProblem) as error:
        return make_response(render("_preview.html", seen=None, trouble=str(error), field=_field(error)))
    fields = sorted(known_fields(resources().db, [one.id for one in _lists(_typed().lists)]))
    return make_response(render("_preview.html", seen=seen, fields=fields))


@page.post("/campaigns/preview/mail", scope="send")
@takes_up_to(LONGEST_FORM)
def mail() -> Response:
    """The HTML of the mail, alone: a document for a frame that can do nothing."""
    try:
        seen = _preview()
    except (BadField, TemplateProblem) as error:
        return Response(str(error), mimetype="text/plain", headers=MAIL_HEADERS)
    if seen.html is None:
        return Response(seen.text or "", mimetype="text/plain", headers=MAIL_HEADERS)
    return Response(seen.html, mimetype="text/html", headers=MAIL_HEADERS)


def _preview() -> Preview:
    """Of what stands in the form; raises BadField or TemplateProblem."""
    leave_out()
    draft, who = _said(), request.form.get("email", "").strip()
    # What it is called here, nobody's mail says.
    checked = check(resources().db, replace(draft, name=draft.name.strip() or NAMELESS))
    stored = request.form.get("campaign", "")
    like = find_campaign(int(stored[:19])) if stored.isascii() and stored[:19].isdigit() else None
    return preview(resources().db, checked, RANDOM if "random" in request.form else who or FIRST, like=like)


def _said() -> Draft:
    """What stands in the form; raises BadField."""
    weight = request.form.get("weight", "1").strip()
    if not (weight.isascii() and weight.isdigit() and len(weight) < 9):
        raise BadField(
            "weight", f"weight {weight[:20]!r} is not allowed: a whole number from 1 to {lifecycle.HEAVIEST}"
        )
    return replace(_typed(), weight=int(weight))


def _typed() -> Draft:
    """The same, whatever it is."""
    form = request.form
    name, subject, sender, html, text = (
        form.get(field, "").replace("\r\n", "\n") for field in ("name", "subject", "sender", "html", "text")
    )
    return Draft(name, subject, sender, form.getlist("lists"), form.getlist("servers"), html, text)


def _of(campaign_id: int) -> dict[str, Any]:
    """What the page shows of a stored campaign; raises NotFound."""
    content = content_of(resources().db, campaign_id)
    campaign = find_campaign(campaign_id)
    return {
        **_shown(content.draft), "campaign": campaign, "content": content, "version": content.version,
        "is_draft": content.status == CampaignStatus.DRAFT, "is_scheduled": content.status == CampaignStatus.SCHEDULED,
    }  # fmt: skip


def _shown(draft: Draft) -> dict[str, Any]:
    servers = Server.select().where(Server.state != ServerState.REMOVED).order_by(Server.id)
    return {
        "draft": draft, "weight": request.form.get("weight", draft.weight), "heaviest": lifecycle.HEAVIEST,
        "all_lists": counted(), "servers": [str(one.name) for one in servers], "examples": EXAMPLES,
        "campaign": None, "content": None, "version": "", "wrong": {}, "to": "",
    }  # fmt: skip


def _lists(names: Iterable[str]) -> list[List]:
    return list(List.select().where(List.name.in_(list(names))))


def _again(error: MailcrewError, field: str = "", **values: Any) -> Response:
    """The page once more with what was typed, and what is wrong beside its field."""
    values["wrong"] = {field or _field(error): str(error)}
    status = 409 if isinstance(error, Refused) else 503 if isinstance(error, Unavailable) else 400
    return make_response(render("campaign_edit.html", **values, page_name=page.name), status)


def _field(error: MailcrewError) -> str:
    """The part of the form that an error speaks of, "" for the whole."""
    if isinstance(error, BadField):
        return authoring.field_of(error.field)
    return error.part if isinstance(error, TemplateProblem) else ""
