"""`spiketicket boards`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from ..errors import BadInput
from .app import verb
from .options import Json, Listing, flag, put


def boards(*, port: Annotated[list[str] | None, Parameter(
               help="ask at this port, whatever its USB bridge is, and nowhere else (may be "
                    "repeated)")] = None,
           call: Annotated[list[str] | None, Parameter(
               help="call boards at this address, HOST[:PORT], and nowhere else (may be "
                    "repeated)")] = None,
           set_ip: Annotated[str | None, Parameter(
               help="give the board at --port this address")] = None,
           test_memory: Annotated[bool, flag(
               "test the DRAM of the board at --port; what is loaded there is lost")] = False,
           listing: Listing = False,
           json: Json = False) -> int:
    """Boards on this computer's serial ports and networks.

    examples:
      spiketicket boards  # of supported boards, with what each says it is
      spiketicket boards --list       # ports only; none is opened, nobody is called
      spiketicket boards --port /dev/ttyUSB1
      spiketicket boards --call 192.168.1.255    # a broadcast address, or a board's
      spiketicket boards --port /dev/ttyUSB1 --set-ip 192.168.1.60
      spiketicket boards --port /dev/ttyUSB1 --test-memory

    A port is asked only if its USB bridge is that of a supported board (or it is
    named): opening a port sends a break and a few bytes to whatever is behind it.
    Boards on the network are called by broadcast and say who holds them; that
    disturbs nobody. An address is given over the serial line, read back, and kept
    until the board is configured or reset. The memory test finds lines that are
    stuck, and a dead chip. Exit code 0 if a board answered (with
    --list: if there is a port), 1 if none, 2 for bad input.
    """
    from .. import ports
    if set_ip is not None:
        if not port or len(port) > 1 or call or listing:
            raise BadInput("--set-ip needs the one serial port of its board, and nothing else: "
                           "--port /dev/ttyUSB1 --set-ip 192.168.1.60")
        given = ports.set_address(ports.named(port[0]), set_ip)
        put({"port": port[0], "ip": given}, json, lambda _: print(
            f"{port[0]}: the board is udp://{given} until it is configured or reset"))
        return 0
    if test_memory:
        if not port or len(port) > 1 or call or listing:
            raise BadInput("--test-memory needs the one serial port of its board, and nothing "
                           "else: --port /dev/ttyUSB1 --test-memory")
        size, words = ports.check_memory(ports.named(port[0]))
        put({"port": port[0], "dram_bytes": size, "words": words}, json, lambda _: print(
            f"{port[0]}: DRAM of {size >> 20} MB, {words:,} words all over it are right"))
        return 0
    found = [] if call and not port else ports.chosen(port)
    answers = [ports.Answer(one) if listing else ports.ask(one) for one in found]
    if call or not (port or listing):
        answers += ports.on_network(call or ())
    put([asdict(answer) for answer in answers], json, lambda _: ports.print_answers(answers))
    return 0 if any(listing or not answer.trouble for answer in answers) else 1


app = verb("boards", boards)


@app.command
def presets(*, json: Json = False) -> None:
    """What can be built: boards with the cores that fit them, and the cores."""
    from hw.build import listing
    listing.show(json)
