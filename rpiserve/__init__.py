"""A daemon for Raspberry-Pi-class machines: you write sensors, it serves them.

The names here are what an app module needs. Importing them starts nothing and installs no reactor.
"""

from rpiserve.app import App
from rpiserve.errors import RpiserveError, SensorError
from rpiserve.handler import Handler
from rpiserve.timetable import Repeat

__version__ = "0.1.0"

__all__ = ["App", "Handler", "Repeat", "RpiserveError", "SensorError", "__version__"]
