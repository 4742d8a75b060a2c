"""GET /openapi.json: the API described from its own code.

`@describes` stands over a view and says what cannot be read from its route: what it is for, what it takes and
what it answers. A test wants it over every route below /api.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar

from flask import Blueprint, Flask, Response, current_app
from werkzeug.routing import Rule

from app.web.access import LOOKING, is_open, scope_of
from app.web.schemas import Schema, Schemas

routes = Blueprint("openapi", __name__)

View = TypeVar("View", bound=Callable[..., Any])

#: Of this description, not of the program.
VERSION = "1"


class Error(TypedDict):
    """What went wrong; `field` names the wrong part of the request."""

    code: str
    message: str
    field: str | None


class ErrorDocument(TypedDict):
    """Every refusal looks like this."""

    error: Error


@dataclass(frozen=True)
class Description:
    """What one view says of itself. Types as `Schemas.of` takes them; query values as JSON schemas."""

    summary: str
    answers: Mapping[int, Any]
    takes: Any = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    media: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, Schema] = field(default_factory=dict)
    may_be_empty: bool = False


_DESCRIBED: dict[object, Description] = {}


def describes(
    summary: str,
    answers: Any,
    *,
    takes: Any = None,
    query: Mapping[str, Schema] | None = None,
    also: Mapping[int, Any] | None = None,
    media: str = "application/json",
    headers: Mapping[str, str] | None = None,
    status: int = 200,
    form: Mapping[str, Schema] | None = None,
    may_be_empty: bool = False,
) -> Callable[[View], View]:
    """Say what a view of the API is for. `answers`: the type of its good answer, 200 or `status`; `also`: of others;
    `takes`: of the body, which `may_be_empty`; `query`: the JSON schema of each value behind the question mark; `form`:
    of each field of an upload, the first of which must be there."""

    def mark(view: View) -> View:
        told = {status: answers, **(also or {})}
        _DESCRIBED[view] = Description(
            summary, told, takes, query or {}, media, headers or {}, form or {}, may_be_empty
        )  # fmt: skip
        return view

    return mark


def whole_number(low: int, high: int, text: str, default: int | None = None) -> Schema:
    """The schema of a query value that `app.web.query.whole` reads."""
    found: Schema = {"type": "integer", "minimum": low, "maximum": high, "description": text}
    return found if default is None else {**found, "default": default}


PAGED = {"Link": 'the next page, as <path>; rel="next"; none on the last'}


@routes.get("/openapi.json")
@describes("This description", dict[str, Any])
def document() -> Response:
    return Response(json.dumps(description(current_app), indent=1, ensure_ascii=False), mimetype="application/json")


def description(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an application."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    problem = {"description": "refused", "content": {"application/json": {"schema": schemas.of(ErrorDocument)}}}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        told = _DESCRIBED.get(view)
        if told is None:
            continue
        path, parameters = _path(rule)
        for method in sorted((rule.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule, view, method, told, parameters, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mailcrew", "version": VERSION,
            "description": "Everything that the console shows and does. Instants are ISO 8601 or, in plots, seconds "
            "since 1970; long lists come a page at a time, and the header Link leads to the next one.",
        },
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.named,
            "responses": {"Problem": problem},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "bin/mailcrew tokens create NAME"},
                "session": {
                    "type": "apiKey", "in": "header", "name": "X-CSRF-Token",
                    "description": "the console's session cookie; everything but looking wants its form token too",
                },
            },
        },
    }  # fmt: skip


def undescribed(app: Flask) -> list[str]:
    """The routes of the API that say nothing of themselves."""
    return [
        f"{rule.rule} ({rule.endpoint})"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and app.view_functions[rule.endpoint] not in _DESCRIBED
    ]


def _operation(
    rule: Rule, view: Any, method: str, told: Description, parameters: list[Schema], schemas: Schemas
) -> Schema:
    query = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in told.query.items()]
    operation: Schema = {
        "operationId": f"{rule.endpoint}_{method.lower()}".replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": told.summary,
        "parameters": [*parameters, *query],
        "responses": {
            **{str(status): _answer(kind, told, schemas) for status, kind in told.answers.items()},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if inspect.getdoc(view):
        operation["description"] = inspect.getdoc(view)
    if told.takes is not None and method not in LOOKING:
        operation["requestBody"] = {
            "required": not told.may_be_empty, "content": {"application/json": {"schema": schemas.of(told.takes)}}
        }  # fmt: skip
    if told.form:
        body: Schema = {"type": "object", "properties": dict(told.form), "required": [next(iter(told.form))]}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": body}}}
    if is_open(view):
        operation["security"] = []
    else:
        operation["x-scope"] = scope_of(view, method)
    return operation


def _answer(kind: Any, told: Description, schemas: Schemas) -> Schema:
    answer: Schema = {"description": "done"}
    if kind is not None:
        answer["content"] = {told.media: {"schema": schemas.of(kind)}}
    if told.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in told.headers.items()
        }
    return answer


def _path(rule: Rule) -> tuple[str, list[Schema]]:
    """The path with its parameters in braces, and what each of them may be."""
    path, parameters = "", []
    for is_parameter, text in rule._trace:
        path += f"{{{text}}}" if is_parameter else text.lstrip("|")
        if is_parameter:
            parameters.append(
                {"name": text, "in": "path", "required": True, "schema": _parameter(rule._converters[text])}
            )
    return path, parameters


def _parameter(converter: Any) -> Schema:
    kind: Literal["integer", "string"] = "integer" if type(converter).__name__ == "IntegerConverter" else "string"
    schema: Schema = {"type": kind}
    if kind == "integer":
        schema["minimum"] = converter.min or 0
        if converter.max is not None:
            schema["maximum"] = converter.max
    return schema
