"""The description of the API is true: of every route and every answer, whatever is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from app.web.openapi import description, undescribed
from app.web.schemas import Schemas, like
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import caller

UNHURRIED = list(HealthCheck)


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    """An application with a campaign that is being sent and a draft."""
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 20))
    campaign = draft(db, ["all"])
    start(db, campaign)
    expand(db, settings, campaign)
    draft(db, ["all"])
    return create_app(replace(settings, redis_url=f"{settings.redis_url}?db=14"), db=db)


@pytest.fixture
def headers(app: Flask) -> dict[str, str]:
    return caller(app, "admin").headers


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_described(app: Flask, headers: dict[str, str], mode: GenerationMode) -> None:
    """A wish that fits its schema and still makes no sense (an address without @) may be refused."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, headers=headers)
    asked = []
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        asked.append(operation.label)

        @examples(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=UNHURRIED)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call_and_validate(
                headers=headers, excluded_checks=[positive_data_acceptance, not_a_server_error]
            )
            # No supervisord runs here, which is no mistake of ours.
            assert answer.status_code < 500 or answer.status_code == 503, answer.text

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "nothing can be wrong where nothing is asked"
    assert "POST /api/campaigns/{campaign_id}/boost" in asked


def test_every_route_of_the_api_is_described(app: Flask) -> None:
    assert undescribed(app) == []


def test_the_description_says_who_may_and_what_is_taken(app: Flask) -> None:
    paths = description(app)["paths"]
    assert paths["/api/health"]["get"]["security"] == []
    assert paths["/api/campaigns"]["get"]["x-scope"] == "read"
    pause = paths["/api/campaigns/{campaign_id}/pause"]["post"]
    assert (pause["x-scope"], set(pause["responses"])) == ("send", {"200", "202", "default"})
    boost = paths["/api/campaigns/{campaign_id}/boost"]["post"]
    assert boost["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Wish"}
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(names)) == len(names)


class Colour(StrEnum):
    RED = "red"


class Body(TypedDict):
    """What is told."""

    size: Annotated[int, {"minimum": 1}]
    note: NotRequired[str | None]
    tree: list[Body]


@dataclass(frozen=True)
class Row:
    id: int
    name: str


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, {"type": "string"}),
        (int | None, {"type": ["integer", "null"]}),
        (list[float], {"type": "array", "items": {"type": "number"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Colour, {"enum": ["red"]}),
        (str | int, {"type": ["string", "integer"]}),
        (list[str] | None, {"items": {"type": "string"}, "type": ["array", "null"]}),
        (Row, {"$ref": "#/components/schemas/Row"}),
    ],
)
def test_a_type_has_a_schema(kind: Any, expected: dict[str, Any]) -> None:
    assert Schemas().of(kind) == expected


def test_named_types_stand_once_under_their_names() -> None:
    schemas = Schemas()
    schemas.of(Body)
    assert schemas.named["Body"] == {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "note": {"type": ["string", "null"]},
            "tree": {"type": "array", "items": {"$ref": "#/components/schemas/Body"}},
        },
        "required": ["size", "tree"],
        "description": "What is told.",
        "additionalProperties": False,
    }


def test_a_document_like_a_row_has_its_fields_under_other_names() -> None:
    schemas = Schemas()
    schemas.of(like("Told", Row, renamed={"id": "number"}, extra=bool, name=int))
    assert list(schemas.named["Told"]["properties"]) == ["number", "name", "extra"]
    assert schemas.named["Told"]["properties"]["name"] == {"type": "integer"}


def test_two_types_of_one_name_are_told_apart() -> None:
    schemas = Schemas()
    first, second = (TypedDict("Twin", {"a": kind}) for kind in (int, str))  # type: ignore[operator]
    schemas.of(first)
    assert schemas.of(second) == {"$ref": "#/components/schemas/Test_Web_OpenapiTwin"}
    assert schemas.of(first) == {"$ref": "#/components/schemas/Twin"}
    with pytest.raises(TypeError):
        schemas.of(TypedDict("Twin", {"a": bool}))  # type: ignore[operator]


def test_a_type_without_a_schema_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        Schemas().of(complex)
