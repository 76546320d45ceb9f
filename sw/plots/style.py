"""How all pictures look, and how they are written. Matplotlib itself is imported by who draws."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "spiketicket", "font.size": 9,
         "axes.spines.top": False, "axes.spines.right": False}
"""For `matplotlib.rc_context`. Text stays text, and equal plots are equal files."""


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format that the name ends in, whole or not at all. Raises BadInput."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    is_svg = path.suffix == ".svg"
    try:
        figure.savefig(part, format=path.suffix[1:], dpi="figure" if is_svg else 140,
                       metadata={"Date": None} if is_svg else None)
        os.replace(part, path)
    except OSError as error:
        raise BadInput(f"{path}: the plot cannot be written ({error})") from error
    return path
