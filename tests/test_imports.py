"""The modules of rpiserve as a graph of imports; those under ``TYPE_CHECKING`` and within functions count, too."""

from pathlib import Path

import grimp

import rpiserve

HERE = Path(rpiserve.__file__).parent
LONGEST = 400
MOST_ENTRIES = 24


def test_no_circles() -> None:
    """No module imports, by whatever way, one that imports it."""
    graph = grimp.build_graph("rpiserve", cache_dir=None)
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := {module for module, imported in left.items() if not imported & left.keys()}:
        left = {module: imported for module, imported in left.items() if module not in free}
    assert sorted(left) == []


def test_sizes() -> None:
    """No module is too long to be read in one sitting, and the top is no longer than a look."""
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in HERE.rglob("*.py")}
    assert [file for file, count in lines.items() if count > LONGEST] == []
    assert len([entry for entry in HERE.iterdir() if entry.name != "__pycache__"]) <= MOST_ENTRIES
