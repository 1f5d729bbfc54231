"""Every error that rpiserve raises on purpose.

The text of each is written for the user: what was wrong, where, and what to do.
"""


class RpiserveError(Exception):
    """The base of all errors that rpiserve raises on purpose."""


class DeclarationError(RpiserveError, ValueError):
    """A declaration in an app module is wrong. Raised at the line that makes it, or by a run if only that shows it."""


class ConfigError(RpiserveError):
    """An option, an environment variable or a line of the TOML file is wrong."""


class StartError(RpiserveError):
    """The daemon cannot start: its port is taken, say."""


class NotRunning(RpiserveError):
    """Something was used that works only while the daemon runs."""


class PathError(RpiserveError, ValueError):
    """A path or a key that the data tree cannot have."""


class DataError(RpiserveError, TypeError):
    """A value or a place that the data tree refuses; the text names the path."""


class SensorError(RpiserveError):
    """A reading that failed for a reason the user should see.

    Its text is shown as it is in ``/sensors`` and ``/data?meta=1``. Of any other exception only the class and an
    incident id are shown, because its text may hold what is nobody's business.
    """


class HandlerTimeout(SensorError):
    """A handler did not end within its time limit."""


class ResourceHeld(SensorError):
    """A shared resource is held by a handler that hangs."""


class UnknownCommand(RpiserveError):
    """A command was called that there is not."""


class HandlerFailed(RpiserveError):
    """A handler raised. What it raised is in the log.

    Attributes:
        incident: the id under which it stands there.
    """

    def __init__(self, text: str, incident: str) -> None:
        super().__init__(text)
        self.incident = incident


class Cancelled(RpiserveError):
    """A run was given up, because the daemon stops."""
