"""Which events are logged."""

from collections.abc import Iterable
from typing import Any, Final

from twisted.logger import LogEvent, LogLevel

PACKAGE: Final = "rpiserve."
"""What our own namespaces begin with: it is left out for people."""

TWISTED: Final = "twisted"

LEVELS: Final[dict[str, Any]] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}


class Levels:
    """Which events are logged.

    Args:
        settings: each a level, or a namespace with that of all in it, as ``rpiserve.messaging=debug``. Our own may do
            without ``rpiserve.``, as they stand in the log. Of several for the same, the last counts.

    Raises:
        ValueError: one is neither.
    """

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self._levels: dict[str, Any] = {"": LogLevel.info}
        for setting in settings:
            namespace, sign, name = setting.rpartition("=")
            level = LEVELS.get(name.strip().lower())
            if level is None or (sign and not namespace.strip()):
                names = ", ".join(name for name in LEVELS if name != "warning")
                raise ValueError(f"it is a level ({names}), or NAMESPACE=LEVEL")
            self._set(namespace.strip(), level)

    def _set(self, namespace: str, level: Any) -> None:
        self._levels[namespace] = level
        if namespace and not f"{namespace}.".startswith(PACKAGE):
            self._levels[PACKAGE + namespace] = level

    @property
    def lowest(self) -> Any:
        """The level beneath which nothing is logged, wherever it is from."""
        return min(self._levels.values())

    def let_pass(self, event: LogEvent) -> bool:
        """Tell whether ``event`` is logged."""
        namespace = namespace_of(event)
        while namespace not in self._levels:
            namespace = namespace.rpartition(".")[0]
        return bool(level_of(event) >= self._levels[namespace])


def level_of(event: LogEvent) -> Any:
    """Return the level of ``event``."""
    return event.get("log_level") or LogLevel.info


def namespace_of(event: LogEvent) -> str:
    """Return where ``event`` is from."""
    namespace = str(event.get("log_namespace") or "")
    return f"{TWISTED}.legacy" if namespace == "log_legacy" else namespace  # what comes by twisted.python.log
