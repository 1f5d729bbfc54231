"""A daemon for Raspberry-Pi-class machines: you write sensors, it serves them.

The names here are what an app module needs. Importing them starts nothing and installs no reactor.
"""

from rpiserve.app import App
from rpiserve.client.caller import Caller
from rpiserve.core.context import broadcast, cache, logger, request, response
from rpiserve.declare.handler import Handler
from rpiserve.declare.registry import Blueprint
from rpiserve.declare.timetables import Repeat
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    HttpError,
    NoResponders,
    NotRunning,
    RemoteError,
    RpiserveError,
    SensorError,
    Stopped,
    TooManyPending,
)
from rpiserve.messaging.pubsub_request import PubSubRequest, PubSubResponse
from rpiserve.web.app_request import HttpRequest, HttpResponse, UploadedFile

__version__ = "0.1.0"

__all__ = [
    "App",
    "Blueprint",
    "BusUnavailable",
    "CallTimeout",
    "Caller",
    "Handler",
    "HttpError",
    "HttpRequest",
    "HttpResponse",
    "NoResponders",
    "NotRunning",
    "PubSubRequest",
    "PubSubResponse",
    "RemoteError",
    "Repeat",
    "RpiserveError",
    "SensorError",
    "Stopped",
    "TooManyPending",
    "UploadedFile",
    "__version__",
    "broadcast",
    "cache",
    "logger",
    "request",
    "response",
]
