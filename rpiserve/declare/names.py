"""The names of services, actions and channels on the bus."""

import re
from typing import Final

from rpiserve.errors import MessageError

LONGEST_CHANNEL: Final = 256
"""In characters; for the id of a request, too."""

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What the name of a service or of an action looks like."""


def checked_bus_name(name: object, what: str) -> str:
    """Return ``name`` as the name of a service or an action, which ``what`` says.

    Raises:
        MessageError: it is none.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise MessageError(f"{name!r:.80} is no name of {what}: it has 1 to 64 letters, digits, '_', '.' and '-'")
    return name


def checked_channel(channel: object) -> str:
    """Return ``channel`` as the name of a channel, or a pattern of names.

    Raises:
        MessageError: it is none.
    """
    if not isinstance(channel, str) or not 0 < len(channel) <= LONGEST_CHANNEL or "\0" in channel:
        raise MessageError(f"{channel!r:.80} is no channel: it is a text of 1 to {LONGEST_CHANNEL} characters")
    try:
        channel.encode()
    except UnicodeEncodeError:
        raise MessageError(f"{channel!r:.80} is no channel: UTF-8 cannot express it") from None
    return channel
