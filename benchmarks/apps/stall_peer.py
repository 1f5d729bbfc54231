"""The peer of `stall_app.py`: the same sensors by ``LoopingCall`` and ``deferToThread`` on Twisted's own pool."""

import json
from typing import Any

from stall_sensors import INTERVAL, SENSORS, write_starts
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

data: dict[str, Any] = {}


class Data(Resource):
    """Serves the readings."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(data).encode()


def poll(name: str) -> Any:
    """Read a sensor in a thread; a failure is dropped, as one that is raised would stop the loop for ever."""
    return deferToThread(SENSORS[name]).addCallbacks(lambda value: data.__setitem__(name, value), lambda _: None)


for name in SENSORS:
    LoopingCall(poll, name).start(INTERVAL)
port = reactor.listenTCP(0, Site(Data()), interface="127.0.0.1")  # type: ignore[attr-defined]
print(f"serving on http://127.0.0.1:{port.getHost().port}", flush=True)
reactor.addSystemEventTrigger("before", "shutdown", write_starts)  # type: ignore[attr-defined]
reactor.run()  # type: ignore[attr-defined]
