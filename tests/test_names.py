"""One noun, one thing: no two classes of one name (docs/glossary.md)."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]

KNOWN = {
    # A unit of the gateware and its cycles in the model share their name on purpose.
    "Drain", "Fetch", "Packer", "Units",
    # Benches and proofs, each read in its own file.
    "Bench", "Case", "Outcome", "Scene", "Visit",
    # Still to be told apart.
    "Attention", "Board", "Device", "Events", "Layer",
    "Memory", "Plan", "Pool", "Request", "Run", "Source", "Step", "Tally",
    "Use",
}
"""Names that two classes have today."""


def doubles(root: Path) -> dict[str, list[str]]:
    """Files by class name, of names that several classes have."""
    found = defaultdict(list)
    for top in ("hw", "sw", "sim"):
        for path in sorted((root / top).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(str(path.relative_to(root)))
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_no_new_class_has_the_name_of_another():
    new = {name: paths for name, paths in doubles(ROOT).items() if name not in KNOWN}
    assert not new, f"two classes of one name; find another noun: {new}"


def test_names_that_are_single_again_leave_the_list():
    assert not KNOWN - set(doubles(ROOT))


def test_a_second_class_is_noticed(tmp_path):
    for folder in ("hw", "sw"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("class Ticket:\n    pass\n")
    assert doubles(tmp_path) == {"Ticket": ["hw/a.py", "sw/a.py"]}
