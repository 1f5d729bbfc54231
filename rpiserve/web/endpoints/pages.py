"""The user's own pages, from a folder."""

import os
import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource
from twisted.web.static import File, getTypeAndEncoding

from rpiserve.core.tokens import READ
from rpiserve.errors import StartError
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import TEXT, UNCHANGED, operation, parameter, problems
from rpiserve.web.problems import Problem
from rpiserve.web.server.etags import matches
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_target import decode_segment

INDEX = "index.html"
UNKNOWN = "application/octet-stream"

_NOTHING = "there is no such page"

# What may reach Twisted's File of the headers that it looks at; it stumbles over others, all of which may be ignored.
_HEADERS = {
    b"Range": re.compile(rb"bytes=[0-9]{1,18}-[0-9]{0,18}"),
    b"If-Modified-Since": re.compile(rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
}


def _operation(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return operation(
        "pages",
        f"{summary} of the user's own pages",
        responses={
            "200": {"description": "The file.", "content": {"*/*": {}}},
            **UNCHANGED,
            **problems(404),
        },
        parameters=parameters,
    )


class PageEndpoints:
    """Serves the files of a folder: nothing outside it, no listings, and no hidden files.

    Args:
        folder: the folder; None if there are no pages.

    Raises:
        StartError: there is no such folder.
    """

    def __init__(self, folder: str | None) -> None:
        if folder is not None and not os.path.isdir(folder):
            raise StartError(f"--www {folder}: there is no such folder")
        self._folder = None if folder is None else Path(folder).resolve()

    @endpoint(
        "GET",
        "/www",
        role=READ,
        operation=_operation("The start page"),
        below=_operation("A file", parameter("path", "path", TEXT, "The path of the file.", example="index.html")),
    )
    def get(self, request: LimitedRequest) -> IResource | Deferred[None]:
        """Serve the file at the request's path below ours."""
        if self._folder is None:
            raise Problem(404, "no pages are served; --www DIR serves those in a folder")
        segments = [decode_segment(segment) for segment in request.postpath]
        if request.path.endswith(b"/"):
            segments.append(INDEX)
        elif os.path.isdir(_find(self._folder, segments)):
            # Relative to where it is, since otherwise it would say whatever Host says.
            location = b"./" + request.path.rsplit(b"/", 1)[-1] + b"/"
            return request.answer(308, b"text/plain", b"", {b"Location": location})
        file = _find(self._folder, segments)
        if not (os.path.isfile(file) and os.access(file, os.R_OK)):
            raise Problem(404, _NOTHING)
        for name, pattern in _HEADERS.items():
            if not pattern.fullmatch(request.getHeader(name) or b""):
                request.requestHeaders.removeHeader(name)
        status = file.stat()
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'.encode()
        known = request.getHeader(b"If-None-Match")
        if matches(known, tag):
            return request.answer(304, b"", b"", {b"ETag": tag, b"Cache-Control": b"no-cache"})
        if known is not None:  # then the date does not count (RFC 9110, section 13.1.3)
            request.requestHeaders.removeHeader(b"If-Modified-Since")
        if request.getHeader(b"If-Range") not in (None, tag):  # or a part of another file would be added to this one
            request.requestHeaders.removeHeader(b"Range")
        request.postpath = []
        request.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-cache"])
        request.responseHeaders.setRawHeaders(b"ETag", [tag])
        resource = File(str(file))
        kind, resource.encoding = getTypeAndEncoding(file.name, File.contentTypes, File.contentEncodings, UNKNOWN)
        resource.type = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        return resource


def _find(folder: Path, segments: list[str]) -> Path:
    if any(segment.startswith(".") or "/" in segment or not segment for segment in segments):
        raise Problem(404, _NOTHING)
    file = Path(os.path.realpath(folder.joinpath(*segments)))
    if not file.is_relative_to(folder):  # a link that leads out
        raise Problem(404, _NOTHING)
    if any(part.startswith(".") for part in file.relative_to(folder).parts):  # one to what is hidden
        raise Problem(404, _NOTHING)
    return file
