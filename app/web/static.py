"""Our own scripts and styles, and those of others that we ship: no page asks anybody else for anything."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, g, request, send_from_directory

from app.web.access import open_to_all

DIRECTORY = Path(__file__).resolve().parent / "static"
LONGEST_CACHE = 365 * 24 * 3600

routes = Blueprint("static", __name__)


@routes.get("/static/<path:name>")
@open_to_all
def file(name: str) -> Response:
    g.quiet = True
    response = send_from_directory(DIRECTORY, name)
    if request.args.get("v"):
        # Another content has another address.
        response.headers["Cache-Control"] = f"public, max-age={LONGEST_CACHE}, immutable"
    return response


@routes.get("/favicon.ico")
@open_to_all
def mark() -> Response:
    """What browsers ask for on pages that are not ours."""
    return file("mark.svg")


@cache
def address(name: str) -> str:
    """Where pages find a file: with the mark of its content, so that browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256((DIRECTORY / name).read_bytes()).hexdigest()[:12]}"
