"""All built-in endpoints, by the classes that answer them."""

from collections.abc import Iterable
from typing import Final

from rpiserve.web.endpoint_declaration import endpoints_of
from rpiserve.web.endpoints.actions import ActionEndpoints
from rpiserve.web.endpoints.broadcasts import BroadcastEndpoints
from rpiserve.web.endpoints.commands import CommandEndpoints
from rpiserve.web.endpoints.dashboard import DashboardEndpoints
from rpiserve.web.endpoints.data import DataEndpoints
from rpiserve.web.endpoints.events import EventEndpoints
from rpiserve.web.endpoints.health import HealthEndpoints
from rpiserve.web.endpoints.login import LoginEndpoints
from rpiserve.web.endpoints.metrics import MetricsEndpoints
from rpiserve.web.endpoints.openapi import OpenApiEndpoints
from rpiserve.web.endpoints.pages import PageEndpoints
from rpiserve.web.endpoints.sensors import SensorEndpoints
from rpiserve.web.endpoints.services import ServiceEndpoints

SUBJECTS: Final[tuple[type, ...]] = (
    DataEndpoints,
    EventEndpoints,
    SensorEndpoints,
    CommandEndpoints,
    ActionEndpoints,
    ServiceEndpoints,
    BroadcastEndpoints,
    HealthEndpoints,
    MetricsEndpoints,
    OpenApiEndpoints,
    DashboardEndpoints,
    LoginEndpoints,
    PageEndpoints,
)

TO_COME: Final = frozenset({"docs", "history", "jobs", "log"})
"""Names that are reserved for coming endpoints, so that an app that runs today also runs with them."""


def reserved_names(subjects: Iterable[object] = SUBJECTS) -> frozenset[str]:
    """Return the first segments of paths that an app's routes cannot have."""
    return TO_COME | {each.segment for subject in subjects for each in endpoints_of(subject)}
