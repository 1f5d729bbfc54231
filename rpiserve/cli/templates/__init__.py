"""The texts that ``new`` and ``unit`` write, with names such as ``@NAME@`` for what differs."""

import re
from importlib.resources import files


def filled(template: str, **values: str) -> str:
    """Return the text of ``template`` with ``values`` in it."""
    text = files(__name__).joinpath(template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)
