"""What a daemon needs of an app: its declarations, its data, and the way from its own threads to the bus."""

import time
import uuid
from typing import Any

from rpiserve.core.thread_bridge import Link
from rpiserve.data.tree import DataTree
from rpiserve.declare.names import NAME
from rpiserve.declare.registry import Registry
from rpiserve.errors import DeclarationError


class DeclaredApp(Registry):
    """The declarations of one service, with what its user's code and its daemon share.

    Args:
        name: the service's name: letters, digits, ``_``, ``.`` and ``-``, at most 64.
        max_workers: how many calls of its concurrent commands may run at the same time, and how many of its actions
            and listeners.

    Attributes:
        tree: the data.
        link: the way to the bus, which a daemon opens.

    Raises:
        DeclarationError: an argument is wrong.
    """

    def __init__(self, name: str, max_workers: int) -> None:
        super().__init__()
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise DeclarationError(f"App({name!r}): a name has 1 to 64 letters, digits, '_', '.' and '-'")
        if not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1:
            raise DeclarationError(f"App({name!r}): max_workers is {max_workers!r}; it is a number of at least 1")
        self.name = name
        self.max_workers = max_workers
        self.tree = DataTree(uuid.uuid4().hex[:8], time.monotonic, time.time)
        self.link: Link[Any] = Link("the bus")
