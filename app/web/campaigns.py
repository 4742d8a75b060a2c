"""GET /api/campaigns: how far every campaign is, and one of them with its queue and workers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from app.campaigns.look import look_at, progress_document
from app.campaigns.progress import Progress, progress_of_all
from app.models.states import CampaignStatus
from app.models.tables import LISTED, Campaign
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import one_of, whole
from app.web.resources import resources
from app.web.schemas import like

routes = Blueprint("campaigns", __name__, url_prefix="/api/campaigns")

PAGE = 100
LARGEST_PAGE = 1000
LARGEST_ID = 2**63 - 1

#: What `progress_document` makes, and what `Look.document` adds to it.
CampaignDocument = like("Campaign", Progress, renamed={"campaign_id": "id"})
CampaignLook = like("CampaignLook", Progress, renamed={"campaign_id": "id"}, queue=int | None, workers=int | None)


@routes.get("")
@describes(
    "How far every campaign is, the newest first", list[CampaignDocument],  # type: ignore[valid-type]
    query={
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "before": whole_number(1, LARGEST_ID, "only those with a lower id: the next page"),
        "status": {"enum": sorted(CampaignStatus)},
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    """The newest first; the next page begins at ?before= the last id of this one."""
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    status = one_of("status", sorted(CampaignStatus))
    chosen = Campaign.select(*LISTED).where(Campaign.id < before).order_by(Campaign.id.desc()).limit(limit + 1)
    found = list(chosen.where(Campaign.status == status) if status else chosen)
    db = resources().db
    now = db.now_ms()
    answer = jsonify([progress_document(one) for one in progress_of_all(db, found[:limit], now)])
    if len(found) > limit:
        more = f"&status={status}" if status else ""
        answer.headers["Link"] = f'<{request.path}?limit={limit}&before={found[limit - 1].id}{more}>; rel="next"'
    return answer


@routes.get(f"/<int(max={LARGEST_ID}):campaign_id>")
@describes("How far one campaign is, with its queue and workers", CampaignLook)
def one(campaign_id: int) -> dict[str, object]:
    here = resources()
    return look_at(here.db, here.redis, campaign_id).document()
