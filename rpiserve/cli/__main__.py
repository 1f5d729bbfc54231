"""The command ``rpiserve``, as ``python -m rpiserve.cli``."""

from rpiserve.cli import main

main()
