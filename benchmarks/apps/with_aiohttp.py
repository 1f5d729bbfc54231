"""The house with aiohttp: ``python with_aiohttp.py PORT``.

Commands run in a thread, since they may block; there is no access log.
"""

import asyncio
import sys

from aiohttp import web
from house import DoorBell, read_house

tree = {}
theDoorBell = DoorBell()
commands = {"theDoorBell.switch": theDoorBell.switch}


async def data(request):
    return web.json_response(tree)


async def cmd(request):
    arguments = dict(request.query)
    return web.json_response(await asyncio.to_thread(commands[arguments.pop("name")], **arguments))


async def poll(app):
    async def read():
        while True:
            tree.update(read_house())
            await asyncio.sleep(1)

    task = asyncio.create_task(read())
    yield
    task.cancel()


app = web.Application()
app.add_routes([web.get("/data", data), web.get("/cmd", cmd)])
app.cleanup_ctx.append(poll)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
