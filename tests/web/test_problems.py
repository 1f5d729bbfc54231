"""Errors as problems: the one ladder from what went wrong to what a client is told, and what it is never told."""

import msgspec
import pytest
from http_peer import parse_answers
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from werkzeug.exceptions import BadHost, Gone, HTTPException, MethodNotAllowed, NotFound

from rpiserve.web.app_request import phrase_of
from rpiserve.web.problems import CONTENT_TYPE, Problem, problem_from

SECRET = "the password is 12345"


@pytest.mark.parametrize("status", [400, 404, 405, 408, 413, 421, 422, 500, 503])
def test_body(status: int) -> None:
    """A problem has a type, a title that belongs to its status, the status, a detail, and further members."""
    problem = Problem(status, "because", errors=[{"argument": "zone", "message": "no number"}])
    assert msgspec.json.decode(problem.body()) == {
        "type": "about:blank",
        "title": phrase_of(status),
        "status": status,
        "detail": "because",
        "errors": [{"argument": "zone", "message": "no number"}],
    }
    assert str(problem) == "because"


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
    assert body["status"] == 500
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
