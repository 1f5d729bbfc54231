"""The house with nothing but Klein: ``python with_klein.py PORT``.

Commands run in a thread, since they may block; there is no access log.
"""

import json
import sys

from house import DoorBell, read_house
from klein import Klein
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.web.server import Site

app = Klein()
tree = {}
theDoorBell = DoorBell()
commands = {"theDoorBell.switch": theDoorBell.switch}


@app.route("/data")
def data(request):
    request.setHeader("Content-Type", "application/json")
    return json.dumps(tree).encode()


@app.route("/cmd")
def cmd(request):
    request.setHeader("Content-Type", "application/json")
    arguments = {key.decode(): values[0].decode() for key, values in request.args.items()}
    return deferToThread(commands[arguments.pop("name")], **arguments).addCallback(lambda it: json.dumps(it).encode())


class Quiet(Site):
    """Writes no access log."""

    def log(self, request):
        pass


LoopingCall(lambda: tree.update(read_house())).start(1)
reactor.listenTCP(int(sys.argv[1]), Quiet(app.resource()), interface="127.0.0.1")
reactor.run()
