"""Errors as problems: the one ladder from what went wrong to what a client is told, and what it is never told."""

import re

import msgspec
import pytest
from http_peer import parse_answers
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from werkzeug.exceptions import BadHost, Gone, HTTPException, MethodNotAllowed, NotFound

from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.payload import BadPayload
from rpiserve.errors import Cancelled, HandlerFailed, HandlerTimeout, HttpError, ResourceHeld, UnknownCommand
from rpiserve.web.app_request import code_of, phrase_of
from rpiserve.web.problems import CONTENT_TYPE, Problem, problem_from

SECRET = "the password is 12345"


@pytest.mark.parametrize("status", [400, 404, 405, 408, 413, 421, 422, 500, 503])
def test_body(status: int) -> None:
    """A problem has a type, a title and a code that belong to its status, a detail, and further members."""
    problem = Problem(status, "because", errors=[{"argument": "zone", "message": "no number"}])
    assert msgspec.json.decode(problem.body()) == {
        "type": "about:blank",
        "title": phrase_of(status),
        "status": status,
        "detail": "because",
        "code": code_of(status),
        "errors": [{"argument": "zone", "message": "no number"}],
    }
    assert str(problem) == "because"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (408, "request_timeout"),
        (409, "conflict"),
        (413, "too_large"),
        (414, "uri_too_long"),
        (415, "unsupported_media_type"),
        (418, "im_a_teapot"),
        (421, "misdirected_request"),
        (429, "too_many_requests"),
        (499, "error"),
        (500, "internal_error"),
        (503, "unavailable"),
        (504, "timeout"),
    ],
)
def test_code_of_a_status(status: int, code: str) -> None:
    """An error without a code of its own has that of its status, whatever the version of Python calls this."""
    assert code_of(status) == code


@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_has_a_code(status: int) -> None:
    """The code of any status fits the pattern that is documented."""
    assert re.fullmatch("[a-z0-9_]{1,40}", code_of(status))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadArguments([{"argument": "a", "message": "it is missing"}]), 422, "invalid_arguments"),
        (BadPayload([{"argument": "a", "message": "it is missing"}]), 422, "invalid_payload"),
        (UnknownCommand("x"), 404, "unknown_command"),
        (HandlerTimeout("x"), 504, "timeout"),
        (ResourceHeld("x"), 503, "busy"),
        (Cancelled("x"), 503, "shutting_down"),
        (HandlerFailed("x", "1234"), 500, "handler_error"),
        (HandlerFailed("x", "1234", "unserializable"), 500, "unserializable"),
        (HttpError(409, "x"), 409, "conflict"),
        (MethodNotAllowed(["GET"]), 405, "method_not_allowed"),
        (NotFound(), 404, "not_found"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_codes(error: Exception, status: int, code: str) -> None:
    """Each kind of error has its status and its code."""
    problem = msgspec.json.decode(problem_from(Failure(error)).body())
    assert (problem["status"], problem["code"]) == (status, code)


def test_raw_answer() -> None:
    """The answer for a connection without a request is whole, and says that it is the last one."""
    (answer,) = parse_answers(Problem(408, "too slow: °").raw_answer({"X-A": "b"}))
    assert (answer.status, answer.reason) == (408, "Request Timeout")
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == CONTENT_TYPE.decode()
    assert answer.json()["detail"] == "too slow: °"


def test_problem_stays() -> None:
    """A problem that was raised is the problem."""
    problem = Problem(422, "x", {b"X": b"y"})
    assert problem_from(Failure(problem)) is problem
    assert problem.headers == {b"X": b"y"}


def test_method_not_allowed() -> None:
    """A method that a route has not is answered with those that it has, OPTIONS among them, in a fixed order."""
    problem = problem_from(Failure(MethodNotAllowed(["HEAD", "GET"])))
    assert problem.status == 405
    assert problem.headers == {b"Allow": b"GET, HEAD, OPTIONS"}
    assert "GET, HEAD, OPTIONS" in problem.detail
    assert problem_from(Failure(MethodNotAllowed())).headers == {b"Allow": b"OPTIONS"}


def test_not_found() -> None:
    """A path without a route is answered with the paths that there are."""
    problem = problem_from(Failure(NotFound(SECRET)))
    assert problem.status == 404
    assert "/data" in problem.detail
    assert SECRET not in problem.detail


@pytest.mark.parametrize(("error", "status"), [(BadHost(SECRET), 400), (Gone(SECRET), 410)])
def test_other_errors_of_the_router(error: HTTPException, status: int) -> None:
    """What else the router raises keeps its status, and nothing of its text."""
    problem = problem_from(Failure(error))
    assert problem.status == status
    assert SECRET not in problem.body().decode()


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), HTTPException(SECRET)])
def test_unforeseen(error: Exception, logged_failures: list[LogEvent]) -> None:
    """An exception that nobody foresaw is logged with an incident id, which is all that the client learns of it."""
    problem = problem_from(Failure(error))
    body = msgspec.json.decode(problem.body())
    assert (body["status"], body["code"]) == (500, "internal_error")
    assert SECRET not in str(body)
    assert type(error).__name__ not in str(body)
    (event,) = logged_failures
    assert event["incident"] == body["incident"]
    assert len(body["incident"]) == 8
    assert event["log_failure"].value is error
    logged_failures.clear()


def test_incidents_differ(logged_failures: list[LogEvent]) -> None:
    """No two incidents share an id."""
    ids = {problem_from(Failure(ValueError())).members["incident"] for _ in range(100)}
    assert len(ids) == 100
    logged_failures.clear()
