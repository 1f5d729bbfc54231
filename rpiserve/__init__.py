"""A daemon for Raspberry-Pi-class machines: you write sensors, it serves them.

The names here are what an app module needs. Importing them starts nothing and installs no reactor.
"""

from rpiserve.app import App
from rpiserve.caller import Caller
from rpiserve.context import broadcast, cache, logger, request, response
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
from rpiserve.handler import Handler
from rpiserve.messaging.exchange import PubSubRequest, PubSubResponse
from rpiserve.registry import Blueprint
from rpiserve.timetable import Repeat
from rpiserve.web.exchange import HttpRequest, HttpResponse, UploadedFile

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
