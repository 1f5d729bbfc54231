"""The same readings with twisted.web and nothing else: a loop that writes the same bytes to each client that is there.

``python events_bare.py PORT``. It knows neither what a client missed nor whether it reads.
"""

import json
import sys
import time

from events_rpiserve import LEAVES, PAUSE
from twisted.internet import reactor, threads
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

values = {f"clock/{number}": 0.0 for number in range(LEAVES)}
changed = {}
clients = set()


def tick():
    """Tell each client what has changed."""
    if changed:
        data = json.dumps({"changed": changed, "removed": []}, separators=(",", ":")).encode()
        event = b"id: 00000000-0000\nevent: change\ndata: " + data + b"\n\n"
        changed.clear()
        for client in list(clients):
            client.write(event)


def write(seconds):
    """Set one reading after the other, in a thread."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        path = f"clock/{count % LEAVES}"
        reactor.callFromThread(put, path, time.monotonic())
        count += 1
        time.sleep(PAUSE)
    return count


def put(path, value):
    """Set one."""
    values[path] = changed[path] = value


class Routes(Resource):
    """All of it."""

    isLeaf = True

    def render_GET(self, request):
        """Serve the readings, or a stream of events."""
        if request.path == b"/data":
            return json.dumps({"clock": {path.partition("/")[2]: value for path, value in values.items()}}).encode()
        request.setHeader(b"Content-Type", b"text/event-stream")
        clients.add(request)
        request.notifyFinish().addBoth(lambda _: clients.discard(request))
        request.write(b"event: snapshot\ndata: " + json.dumps(values).encode() + b"\n\n")
        return NOT_DONE_YET

    def render_POST(self, request):
        """Begin to write, as the command does."""
        seconds = json.load(request.content)["Command"]["Args"]["seconds"]

        def answer(count):
            request.write(b'{"Command":{"Result":%d}}' % count)
            request.finish()

        threads.deferToThread(write, seconds).addCallback(answer)
        return NOT_DONE_YET


if __name__ == "__main__":
    LoopingCall(tick).start(0.1)
    reactor.listenTCP(int(sys.argv[1]), Site(Routes()), interface="127.0.0.1", backlog=500)
    reactor.run()
