"""`spiketicket classify`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from hw.boards import DEFAULT_BOARD

from .. import bundled
from .app import verb
from .options import Baud, Board, Json, Masks, Port, Preset, Ticket, checked_masks, number


def classify(source: Annotated[str, Parameter(
                 allow_leading_hyphen=True, help="a picture or a folder of pictures, an event "
                 "file, or - for frames on standard input")], *,
             ticket: Ticket = bundled.DEFAULT, board: Board = DEFAULT_BOARD, preset: Preset = None,
             port: Port = None, baud: Baud = None,
             images: Annotated[int | None, number("end after so many inputs (default: with the "
                                                  "source)", 1)] = None,
             checked: Annotated[int, number("inputs whose logits are compared with the "
                                            "reference", 0)] = 20,
             masks: Masks = None,
             window: Annotated[float | None, number("cut event files into inputs of so many "
                                                    "ms", 0)] = None,
             ahead: Annotated[int, number("inputs sent before the first result is there (0: the "
                                          "lowest latency)", 0)] = 0,
             json: Json = False) -> int:
    """Print labels as they come; see docs/report.md.

    examples:
      spiketicket classify photos/
      spiketicket classify walk.aedat4 --ticket nmnist-spikeformer --window 100
      camera | spiketicket classify - --json

    Exit code 1 if a compared logit differs from the reference.
    """
    return live(ticket, source, board=board, preset=preset, port=port, baud=baud, images=images,
                checked=checked, masks=masks, window=window, ahead=ahead, json=json)


def live(ticket: str, source: str, *, masks: str | None, window: float | None, json: bool,
         **options) -> int:
    """Run `sw.live`; exit code 1 if a compared logit differs."""
    from ..live import run_live
    tally = run_live(ticket, source, masks=checked_masks(masks), window_ms=window, as_json=json,
                     **options)
    return 1 if tally.different else 0


app = verb("classify", classify)
