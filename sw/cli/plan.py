"""`spiketicket plan`."""

from __future__ import annotations

from typing import Annotated

from hw.boards import BOARDS, DEFAULT_BOARD

from .. import bundled
from .app import verb
from .options import Board, Data, Json, Preset, Ticket, exclusive, flag, put


def plan(ticket: Ticket, *, board: Board = DEFAULT_BOARD, preset: Preset = None,
         data: Data = None,
         passes: Annotated[bool, flag("the compiler's passes instead: what goes in and comes out, "
                                      "and the variants it chose from")] = False,
         json: Json = False) -> int:
    """Fit and forecast of a ticket on a board.

    examples:
      spiketicket plan fmnist-scnn
      spiketicket plan my.safetensors --board arty_a7_100 --json
      spiketicket plan my.safetensors --data fashion-mnist
      spiketicket plan my.safetensors --passes

    Prints every memory's use, bits per surviving weight against the entropy
    bound, and the cycle model's forecast: on the typical training samples that a
    ticket carries, or on those of --data. Nothing is sent to a board. Exit code 0
    if the ticket fits, 1 if it does not, 2 for bad input.
    """
    from .. import plan as plans
    from .. import ticket as tickets
    from ..compile import passes as reports
    exclusive(data=data, passes=passes)
    found = tickets.load(bundled.find(ticket))
    if passes:
        result = plans.passes(found, BOARDS[board], preset)
        put(result, json, lambda found: print(reports.report(found)))
    else:
        result = plans.plan(found, BOARDS[board], data, preset)
        put(result, json, lambda found: print(plans.report(found)))
    return 0 if result["fits"] else 1


app = verb("plan", plan)
