"""What the OpenAPI document says of the app's own routes."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from openapi_reader import Box, Cat, Pair, Reading, body, fits, of_route, read, result, returns
from openapi_spec_validator import validate

from rpiserve import App, HttpRequest


@pytest.mark.parametrize(
    "annotation",
    [None, Any, "int | None", bytes, tuple[int, int], Pair, "bytes | str", Annotated[None, msgspec.Meta(title="a")]],
    ids=repr,
)
def test_a_route_that_may_answer_with_anything(annotation: Any) -> None:
    """What may be no plain value (a pair with a status, say) has an open answer, of any status."""
    _, operation = of_route("/a", returns(annotation))
    assert set(operation["responses"]) == {"200", "default"}
    assert "content" not in operation["responses"]["200"]


def test_a_route_that_answers_with_a_value() -> None:
    """The answer has its schema, and the errors are those that can occur."""

    def put(reading: Reading, room: str) -> list[str]:
        return [room]

    whole, operation = of_route("/rooms/<room>", put, "PUT")
    assert result(operation) == {"type": "array", "items": {"type": "string"}}
    assert fits(whole, body(operation), {"value": 1})
    assert operation["requestBody"]["required"]
    statuses = {"200", "400", "401", "403", "404", "408", "413", "421", "422", "429", "500", "503", "504", "default"}
    assert set(operation["responses"]) == statuses


@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        ("<v>", ["a", "7"], [""]),
        ("<string(length=2):v>", ["ab"], ["a", "abc"]),
        ("<int:v>", [0, 7], [-1, "a", 0.5]),
        ("<int(signed=True):v>", [-1], ["a"]),
        ("<int(min=3, max=5):v>", [3, 5], [2, 6]),
        ("<int(3):v>", ["007"], ["7"]),
        ("<float:v>", [0.5], [-0.5, "a"]),
        ("<uuid:v>", [str(UUID(int=7))], [7]),
        ("<any(a, 'b,c'):v>", ["a", "b,c"], ["c"]),
        ("<path:v>", ["a/b"], [""]),
    ],
)
def test_the_variables_of_a_path(variable: str, good: list[Any], bad: list[Any]) -> None:
    """Each is a parameter with the type of its converter, within the bounds that it has."""
    whole, operation = of_route(f"/x-{variable}.json", lambda v: v)
    validate(whole)
    assert "/x-{v}.json" in whole["paths"]
    [parameter] = operation["parameters"]
    assert parameter["required"]
    assert all(fits(whole, parameter["schema"], value) for value in good)
    assert not any(fits(whole, parameter["schema"], value) for value in bad)


def test_the_payload_of_a_get_is_its_query() -> None:
    """Each field is a parameter; one that is an object is written as JSON."""

    def get(box: Box[Cat]) -> None: ...

    def more(reading: Reading) -> None: ...

    whole, operation = of_route("/a", get)
    [item] = operation["parameters"]
    assert (item["name"], item["in"], item["required"]) == ("item", "query", True)
    assert set(item["content"]) == {"application/json"}
    validate(whole)
    _, operation = of_route("/a", more)
    assert [(each["name"], each["required"]) for each in operation["parameters"]] == [
        ("value", True),
        ("level", False),
        ("at", False),
        ("notes", False),
    ]
    assert all("schema" in each for each in operation["parameters"])


def test_a_request_as_it_is() -> None:
    """A route that is given the request may have a body or not; one that takes nothing has none to tell of."""
    _, operation = of_route("/a", lambda request: None, "POST")
    assert operation["requestBody"] == {"required": False, "content": {"application/json": {"schema": {}}}}
    assert "requestBody" not in of_route("/a", lambda: None, "POST")[1]
    assert "requestBody" not in of_route("/a", lambda request: None, "GET")[1]


def test_paths_that_openapi_cannot_tell_apart() -> None:
    """They are one path with all their methods; where they share a method, one operation stands for both."""
    app = App("test")

    @app.route("/<int:number>", ["GET", "DELETE"])
    def by_number(number: int) -> int:
        """By number."""
        return number

    @app.route("/<name>", ["GET", "POST"])
    def by_name(request: HttpRequest, name: str) -> str:
        """By name."""
        return name

    whole = read(app)
    item = whole["paths"]["/{number}"]
    assert set(item) == {"get", "delete", "post"}
    assert item["get"]["summary"] == "By number. / By name."
    [parameter] = item["get"]["parameters"]
    assert fits(whole, parameter["schema"], 7)
    assert fits(whole, parameter["schema"], "a")
    assert not fits(whole, item["delete"]["parameters"][0]["schema"], "a")
    assert item["post"]["parameters"][0]["name"] == "number"
