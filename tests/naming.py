"""What a value is called in the name of a test: the same in each run, and in each process of one."""

import re


def shown(value: object) -> str:
    """Return ``repr(value)`` without addresses, and with the items of a set in order."""
    text = f"{{{', '.join(sorted(map(shown, value)))}}}" if isinstance(value, set) else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)
