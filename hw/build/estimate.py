"""Estimated clock of a mapped 7-series netlist, before placement.

Static timing over the netlist with cell delays of speed grade -1 (AMD DS181 and Vivado's typical
figures) and a guessed wire: a base and a part that grows with the logarithm of the fan-out. Not a
routed figure: expect it within some 15 %, and say so wherever it is shown.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator

from .timing import Locate, Timing, merge

LUT, MUX, MUX_SELECT = 0.124, 0.22, 0.30
CARRY_IN_OUT, CARRY_IN_SUM, CARRY_S_OUT, CARRY_S_SUM = 0.114, 0.24, 0.45, 0.33
FF_OUT, FF_IN, FF_CONTROL = 0.456, 0.10, 0.35
LUTRAM_READ, LUTRAM_OUT, LUTRAM_IN, SRL_OUT, SRL_IN = 0.15, 1.2, 0.5, 1.6, 0.3
BRAM_OUT, BRAM_REGISTERED, BRAM_IN = 2.454, 0.88, 0.57
DSP_THROUGH, DSP_ADD, DSP_P, DSP_M, DSP_IN = 4.0, 1.5, 0.43, 1.9, 0.4
DSP_BEFORE_M, DSP_BEFORE_P = 2.9, 3.9
WIRE, WIRE_PER_FAN_OUT = 0.55, 0.16

Arc = tuple[int, int, float, bool]
"""From net, to net, delay in ns, by a wire of the fabric (else by a fixed connection)."""


def wire(fan_out: int) -> float:
    """Guessed delay of a net in ns."""
    return WIRE + WIRE_PER_FAN_OUT * math.log2(max(fan_out, 1))


class _Cell:
    """Timing of one cell: arcs through it, nets it starts and ends paths on."""

    def __init__(self, cell: dict):
        self.type = cell["type"]
        self.ports = {port: [bit for bit in bits if isinstance(bit, int)]
                      for port, bits in cell["connections"].items()}
        self.directions = cell["port_directions"]
        self.parameters = cell.get("parameters", {})

    def nets(self, *prefixes: str, output: bool = False) -> Iterator[int]:
        wanted = "output" if output else "input"
        for port, bits in self.ports.items():
            if self.directions[port] == wanted and port.startswith(prefixes or ""):
                yield from bits

    def number(self, name: str) -> int:
        return int(self.parameters.get(name, "0"), 2)

    def timing(self) -> tuple[list[Arc], list[tuple[int, float]], list[tuple[int, float]]]:
        """(arcs, (net, clock-to-output), (net, set-up))."""
        kind = self.type
        if kind.startswith("LUT") or kind == "INV":
            return self._through(LUT), [], []
        if kind in ("MUXF7", "MUXF8"):
            arcs = [(net, out, MUX, False) for net in self.nets("I")
                    for out in self.nets(output=True)]
            arcs += [(net, out, MUX_SELECT, True) for net in self.nets("S")
                     for out in self.nets(output=True)]
            return arcs, [], []
        if kind == "CARRY4":
            return self._carry(), [], []
        if kind.startswith("FD"):
            ends = [(net, FF_IN) for net in self.nets("D")]
            ends += [(net, FF_CONTROL) for net in self.nets("CE", "R", "S")]
            return [], [(net, FF_OUT) for net in self.nets("Q", output=True)], ends
        if kind.startswith("SRL"):
            return [], [(net, SRL_OUT) for net in self.nets("Q", output=True)], [
                (net, SRL_IN) for net in self.nets("D", "CE")]
        if kind.startswith("RAMB"):
            registered = self.number("DOA_REG") or self.number("DOB_REG")
            out = BRAM_REGISTERED if registered else BRAM_OUT
            return [], [(net, out) for net in self.nets(output=True)], [
                (net, BRAM_IN) for port in self.ports if not port.startswith("CLK")
                for net in self.nets(port)]
        if kind.startswith("RAM"):
            return self._lutram()
        if kind == "DSP48E1":
            return self._dsp()
        return self._through(0.0) if kind in ("BUFG", "IBUF", "OBUF") else [], [], []

    def _through(self, delay: float) -> list[Arc]:
        return [(net, out, delay, True) for net in self.nets() for out in self.nets(output=True)]

    def _carry(self) -> list[Arc]:
        arcs: list[Arc] = []
        for port, from_s, from_in in (("O", CARRY_S_SUM, CARRY_IN_SUM),
                                      ("CO", CARRY_S_OUT, CARRY_IN_OUT)):
            for out in self.ports.get(port, ()):
                arcs += [(net, out, from_in, False) for net in self.ports.get("CI", ())]
                arcs += [(net, out, from_s, True) for name in ("S", "DI", "CYINIT")
                         for net in self.ports.get(name, ())]
        return arcs

    def _lutram(self):
        arcs, starts = [], []
        for port, bits in self.ports.items():
            if self.directions[port] != "output":
                continue
            # DOA is read at ADDRA; DPO at DPRA0..; SPO and O at A0...
            address = (f"ADDR{port[-1]}" if port.startswith("DO") else
                       "DPRA" if port == "DPO" else "A")
            for out in bits:
                starts.append((out, LUTRAM_OUT))
                arcs += [(net, out, LUTRAM_READ, True) for net in self.nets(address)]
        ends = [(net, LUTRAM_IN) for port, bits in self.ports.items() for net in bits
                if port == "D" or port.startswith(("DI", "WE", "ADDRD"))]
        return arcs, starts, ends

    def _dsp(self):
        product, m = self.number("PREG"), self.number("MREG")
        outputs = list(self.nets("P", output=True))
        arcs: list[Arc] = []
        starts = [(net, DSP_P if product else DSP_M) for net in outputs if product or m]
        ends = [(net, DSP_IN) for net in self.nets("CE", "RST")]
        for name, delay in (("A", DSP_THROUGH), ("B", DSP_THROUGH), ("C", DSP_ADD)):
            for net in self.ports.get(name, ()):
                if self.number(f"{name}REG"):
                    ends.append((net, DSP_IN))
                    if not (m or product):
                        starts += [(out, delay) for out in outputs]
                elif m and name != "C":
                    ends.append((net, DSP_BEFORE_M))
                elif product:
                    ends.append((net, DSP_BEFORE_P if name != "C" else DSP_ADD))
                else:
                    arcs += [(net, out, delay, True) for out in outputs]
        return arcs, starts, ends


def estimate(module: dict, locate: Locate) -> Timing:
    """Clock and slowest path of a netlist's top module (Yosys JSON), 7-series cells."""
    arcs: dict[int, list[tuple[int, float, bool]]] = defaultdict(list)
    inputs: Counter[int] = Counter()
    arrival: dict[int, float] = {}
    ends: list[tuple[int, float]] = []
    fan_out: Counter[int] = Counter()
    driver: dict[int, str] = {}
    for name, description in module["cells"].items():
        cell = _Cell(description)
        fan_out.update(cell.nets())
        driver.update(dict.fromkeys(cell.nets(output=True), name))
        through, starts, stops = cell.timing()
        for a, b, delay, fabric in through:
            arcs[a].append((b, delay, fabric))
            inputs[b] += 1
        for net, delay in starts:
            arrival[net] = max(delay, arrival.get(net, 0.0))
        ends += stops
    before: dict[int, tuple[int, float, float]] = {}
    ready = deque(net for net in {*arcs, *arrival} if not inputs[net])
    while ready:
        net = ready.popleft()
        here = arrival.setdefault(net, 0.0)
        for following, delay, fabric in arcs.get(net, ()):
            routing = wire(fan_out[net]) if fabric else 0.0
            if here + routing + delay > arrival.get(following, -1.0):
                arrival[following] = here + routing + delay
                before[following] = net, routing, delay
            inputs[following] -= 1
            if not inputs[following]:
                ready.append(following)
    worst, total, set_up = None, 0.0, 0.0
    for net, delay in ends:
        time = arrival.get(net, 0.0) + wire(fan_out[net]) + delay
        if time > total:
            worst, total, set_up = net, time, delay
    if worst is None:
        return Timing(math.inf, ())
    parts = [(driver.get(worst, ""), "end", set_up), (driver.get(worst, ""), "routing",
                                                        wire(fan_out[worst]))]
    net = worst
    while net in before:
        source, routing, delay = before[net]
        parts.append((driver.get(net, ""), "logic", delay))
        if routing:
            parts.append((driver.get(source, ""), "routing", routing))
        net = source
    parts.append((driver.get(net, ""), "end", arrival[net]))
    return Timing(1e3 / total, merge(parts[::-1], locate))
