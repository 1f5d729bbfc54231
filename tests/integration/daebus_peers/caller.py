"""A caller of Daebus 0.0.31: ``python caller.py PORT SERVICE METHOD ARGUMENTS``, the arguments as a JSON array.

It calls the method of the same name, and writes a line of JSON: an object with its ``result``, or the ``error`` and its
``kind``, and with all ``progress`` in between.
"""

import json
import sys
from typing import Any

from daebus import DaebusCaller


def main(port: str, service: str, method: str, arguments: str) -> None:
    caller = DaebusCaller(service, redis_port=int(port), timeout=30)
    progress: list[Any] = []
    options = {"on_progress": progress.append} if method == "send_request" else {}
    try:
        result = getattr(caller, method)(*json.loads(arguments), **options)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test sees it
        told: dict[str, Any] = {"error": str(error), "kind": type(error).__name__}
    else:
        told = {"result": result}
    print(json.dumps({**told, "progress": progress}))
    caller.close()


main(*sys.argv[1:])
