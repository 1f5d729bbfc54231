"""An echo as an action: what ``twistd rpiserve`` serves in the benchmark of calls."""

from typing import Any

from rpiserve import App, PubSubRequest

app = App("rpc-echo")


@app.action("echo")
async def echo(request: PubSubRequest) -> Any:
    """Return the payload."""
    return request.payload


@app.action("echo_in_thread")
def echo_in_thread(request: PubSubRequest) -> Any:
    """Return the payload, from a worker thread."""
    return request.payload
