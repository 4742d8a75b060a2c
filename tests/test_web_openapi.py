"""The description of the API: every route stands in it, and types become schemas. `test_web_fuzzed` has it asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from flask import Flask

from app.config import Settings
from app.web.application import create_app
from app.web.openapi import description, undescribed
from app.web.schemas import Schemas, like


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


def test_every_route_of_the_api_is_described(app: Flask) -> None:
    assert undescribed(app) == []


def test_the_description_says_who_may_and_what_is_taken(app: Flask) -> None:
    paths = description(app)["paths"]
    assert paths["/api/health"]["get"]["security"] == []
    assert paths["/api/campaigns"]["get"]["x-scope"] == "read"
    pause = paths["/api/campaigns/{campaign_id}/pause"]["post"]
    assert (pause["x-scope"], set(pause["responses"])) == ("send", {"200", "202", "default"})
    assert set(paths["/api/schedules/{user}/targets"]["post"]["responses"]) == {"201", "default"}
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
