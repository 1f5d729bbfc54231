"""A service of Daebus 0.0.31: ``python service.py PORT``, the port of the Redis server.

It writes ``ready`` once it listens, and then a line of JSON for each message that it gets without being asked.
"""

import json
import sys
from typing import Any

from daebus import Daebus, DaebusCaller, broadcast, get_daemon, request, response
from redis import Redis

PORT = int(sys.argv[1])
NAME = "daebus-service"

app = Daebus(NAME)
# Its broadcasts go to localhost:6379 otherwise, whatever run() is told.
app.broadcast = type(app.broadcast)(Redis(port=PORT, decode_responses=True))


def told(kind: str, message: Any) -> None:
    print(json.dumps([kind, message]), flush=True)


@app.action("greet")
def greet() -> None:
    response.success({"message": f"Hello, {request.payload['name']}!"})


@app.action("fail")
def fail() -> None:
    response.error(ValueError("the pump is dry"))


@app.action("crash")
def crash() -> None:
    raise ValueError("the pump is dry")


@app.action("count")
def count() -> None:
    for number in (1, 2, 3):
        response.progress({"number": number}, progress_percentage=number * 25)
    response.send({"sum": 6})


@app.action("forward")
def forward() -> None:
    """Ask another service, as a Daebus service does."""
    caller = DaebusCaller(request.payload["service"], redis_port=PORT)
    response.send({"said": caller.send_request(request.payload["action"], request.payload["payload"])})
    caller.close()


@app.action("announce")
def announce() -> None:
    response.send({"receivers": broadcast.send(request.payload["channel"], request.payload["message"])})


@app.action("note")
def note() -> None:
    told("note", request.raw)


@app.listen("news")
def news(message: dict[str, Any]) -> None:
    told("news", message)


@app.on_start()
def started() -> None:
    redis = get_daemon().redis
    while [subscribers for _, subscribers in redis.pubsub_numsub(NAME, "news")] != [1, 1]:
        pass
    print("ready", flush=True)


app.run(service=NAME, redis_port=PORT)
