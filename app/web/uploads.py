"""Files that people send: streamed to the home's `state/`, never through memory, and for our eyes only."""

from __future__ import annotations

import os
import secrets
import sys
from tempfile import NamedTemporaryFile
from typing import IO, Any

from flask import Request, current_app, request
from werkzeug.datastructures import FileStorage

from app.web.errors import Problem
from app.web.resources import resources

MB = 1024 * 1024


class StreamedRequest(Request):
    """A request whose files, on routes that take large ones, are written to `state/uploads` while they come in."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.mimetype == "application/x-www-form-urlencoded":
            # As large as the route's requests may be; beside a file there are small fields only.
            self.max_form_memory_size = sys.maxsize

    def _get_file_stream(
        self, total_content_length: int | None, content_type: str | None, filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:  # fmt: skip
        if (self.max_content_length or 0) <= current_app.config["MAX_CONTENT_LENGTH"]:
            return super()._get_file_stream(total_content_length, content_type, filename, content_length)
        directory = resources().settings.uploads
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # Mode 0600, and gone with the request unless `keep` gives it another name.
            return NamedTemporaryFile(dir=directory, prefix="upload-")
        except OSError as error:
            raise _no_room(error) from error


def most() -> int:
    """The largest request that brings a file, in bytes."""
    return resources().settings.upload_mb * MB


def uploaded(field: str) -> FileStorage:
    """The file in a field of the present request's form; raises Problem."""
    try:
        found = request.files.get(field)
    except OSError as error:
        raise _no_room(error) from error
    if found is None or not found.filename:
        raise Problem(400, "invalid", f"send the file as multipart/form-data, in the field {field}", field)
    return found


def keep(file: FileStorage) -> str:
    """Keep an uploaded file beyond its request; its name in `state/uploads`. Raises Problem."""
    stored = secrets.token_hex(16)
    stream: Any = file.stream
    try:
        stream.flush()
        os.fsync(stream.fileno())
        os.link(stream.name, resources().settings.uploads / stored)
    except OSError as error:
        raise _no_room(error) from error
    return stored


def _no_room(error: OSError) -> Problem:
    return Problem(507, "no_room", f"the file cannot be stored here: {error.strerror or error}")
