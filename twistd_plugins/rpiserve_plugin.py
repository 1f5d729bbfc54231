"""Tells twistd that there is a service called ``rpiserve``.

It names the module that makes the service and imports nothing of it: twistd reads every plugin at each start, and one
that fails to import prints a traceback even to those who asked for another service.
"""

from twisted.application.service import ServiceMaker

rpiserve = ServiceMaker(
    "rpiserve",
    "rpiserve.tap",
    "Serve a machine's sensors and commands over HTTP, from one Python module.",
    "rpiserve",
)
