"""An echo with Daebus: ``python echo_daebus.py PORT`` is the service, with COUNT behind it the caller."""

import json
import sys
import time

from daebus import Daebus, DaebusCaller, request, response

SERVICE, WARM_UP = "daebus-echo", 20


def serve(port):
    """Answer until the end."""
    app = Daebus(SERVICE)

    @app.action("echo")
    def echo():
        return response.success(request.payload)

    app.run(service=SERVICE, redis_port=port)


def call(port, count):
    """Call one after the other, and print the seconds that each took."""
    caller = DaebusCaller(SERVICE, redis_port=port)
    while True:
        try:
            caller.send_request("echo", {}, timeout=1)
            break
        except TimeoutError:
            pass
    seconds = []
    for number in range(WARM_UP + count):
        begin = time.perf_counter()
        caller.send_request("echo", {"number": number})
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(seconds[WARM_UP:]))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(int(sys.argv[1]))
    else:
        call(int(sys.argv[1]), int(sys.argv[2]))
