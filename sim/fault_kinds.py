"""The kinds of fault: each injects its own while a user's operations run.

A kind is a function of a `Lab`, its `Tally` and how much to do, and generates after each operation,
so that a progress bar can follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hw import registers
from hw.config import PRESETS
from sw.board.driver import Accelerator
from sw.board.protocol import FrameError, decode_frame

from .fault_board import BREAK_CYCLES, PinTransport
from .fault_lab import Lab, Tally
from .fault_lines import ByteFaults, Device, Foreign, Line
from .fault_speaker import second_speaker

Kind = Callable[[Lab, Tally, int], Iterator[None]]


def byte_faults(lab: Lab, tally: Tally, size: int) -> Iterator[None]:
    """Errors of `tally.kind` at `tally.rate` until `size` more bytes have passed."""
    end = tally.bytes + size
    line, board = lab.connect(tally)
    while tally.bytes < end:
        for case in lab.cases:
            for _, do in case.operations(board, lab.random):
                faults = [ByteFaults(tally.kind, tally.rate, lab.random) for _ in range(2)]
                line.to_board, line.from_board = faults
                ended = lab.attempt(tally, line, do)
                tally.faults += sum(fault.faults for fault in faults)
                if ended != "right":
                    lab.still_usable(tally, line, board, case)
                yield
                if tally.bytes >= end:
                    return


def noise(lab: Lab, tally: Tally, size: int) -> Iterator[None]:
    """Wrong bits on the wires, so that start and stop bits are hit too: `tally.rate` / 10 a bit."""
    pins: PinTransport = lab.transport
    end = tally.bytes + size
    line, board = lab.connect(tally)
    while tally.bytes < end:
        for case in lab.cases:
            for _, do in case.operations(board, lab.random):
                before = pins.wrong_bits
                pins.noise(tally.rate / 10, lab.random.getrandbits(64))
                ended = lab.attempt(tally, line, do)
                pins.noise(0, 0)
                tally.faults += pins.wrong_bits - before
                if ended != "right":
                    lab.still_usable(tally, line, board, case)
                yield
                if tally.bytes >= end:
                    return


def once(lab: Lab, tally: Tally, count: int, during: str, act: Callable[[Line], None], *,
         again: bool = False, mend: Callable[[Line], None] = lambda line: None
         ) -> Iterator[None]:
    """`act` in the middle of a write, some time into `during` (load or infer), `count` times.

    again: at every third write from then on, not once. mend: what ends the fault once the
    operation has ended.
    """
    line, board = lab.connect(tally)
    for _ in range(count):
        case = lab.random.choice(lab.cases)
        line.quieten()
        if during == "infer":
            case.load(board)
        writes = [0]
        line.event = lambda data, writes=writes: bool(writes.append(0))
        (case.load if during == "load" else case.infer)(board)
        at = [lab.random.randrange(len(writes) - 1)]

        def event(data: bytes, at: list[int] = at) -> bool:
            at[0] -= 1
            if at[0] >= 0 or (at[0] < -1 and not (again and at[0] % 3 == 2)):
                return False
            cut = lab.random.randrange(len(data) + 1)
            line.inner.write(data[:cut])
            line.inner.step(lab.random.randrange(60 * len(data) + 4000))
            act(line)
            tally.faults += 1
            line.inner.write(data[cut:])
            return True

        line.event = event
        lab.attempt(tally, line, lambda case=case: (
            case.load(board) if during == "load" else case.infer(board)))
        mend(line)
        lab.still_usable(tally, line, board, case)
        yield


def _power(line: Line) -> None:
    line.inner.power_cycle()


def power_in_load(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The board loses its power, and with it every memory, while a network is loaded."""
    return once(lab, tally, count, "load", _power)


def power_in_inference(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The same while it computes."""
    return once(lab, tally, count, "infer", _power)


def power_keeps_failing(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """From some moment on it does so again and again."""
    return once(lab, tally, count, "infer", _power, again=True)


def reset_in_load(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The reset button, at the pins, while a network is loaded."""
    return once(lab, tally, count, "load", lambda line: line.inner.press_reset())


def reset_in_inference(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The same while the board computes."""
    return once(lab, tally, count, "infer", lambda line: line.inner.press_reset())


def breaks(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The line at 0 for a part of a bit up to more than a break."""
    def hold(line: Line) -> None:
        line.inner.hold_low(int(2 * (BREAK_CYCLES * 0.75) ** lab.random.random()))

    for during in ("load", "infer"):
        yield from once(lab, tally, -(-count // 2), during, hold)


def silence(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The cable is pulled, for the rest of an operation, then put back."""
    line, board = lab.connect(tally)
    for _ in range(count):
        case = lab.random.choice(lab.cases)
        case.load(board)
        left = [lab.random.randrange(4)]

        def pull(data: bytes, left: list[int] = left) -> bool:
            left[0] -= 1
            line.mute = line.mute or left[0] < 0
            return line.mute

        line.event = pull
        tally.faults += 1
        _, do = lab.random.choice([*case.operations(board, lab.random)])
        lab.attempt(tally, line, do)
        lab.still_usable(tally, line, board, case)
        yield


def foreign_bytes(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Other programs write to the same port, and what they are sent comes in here: text, modem
    commands, binary protocols, in the middle of frames."""
    line, board = lab.connect(tally)
    for _ in range(-(-count // 20)):
        for case in lab.cases:
            for _, do in case.operations(board, lab.random):
                faults = [Foreign(0.1, lab.random) for _ in range(2)]
                line.to_board, line.from_board = faults
                lab.attempt(tally, line, do)
                tally.faults += sum(fault.faults for fault in faults)
                lab.still_usable(tally, line, board, case)
                yield


def other_device(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """What answers is no board: a looped cable, a console, a modem, noise, nothing."""
    draw = lab.random
    answers = {
        "looped cable": lambda sent: sent,
        "console": lambda sent: b"login: " + sent.replace(b"\n", b"\r\n") if sent else b"",
        "endless text": lambda sent: b"[ 12.345678] usb 1-1: reset high-speed USB device\r\n",
        "modem": lambda sent: b"\r\nERROR\r\n" if sent else b"",
        "endless noise": lambda sent: draw.randbytes(draw.randrange(1, 400)),
        "endless zeros": lambda sent: bytes(64),
        "nothing": lambda sent: b"",
    }
    for name, answer in answers.items():
        device = Device(name, answer)
        board = Accelerator(device, lab.transport.config)
        tally.faults += 1
        if lab.attempt(tally, device, lambda board=board: not board.connect()) != "error":
            tally.silent_wrong += 1
        line, board = lab.connect(tally)
        lab.still_usable(tally, line, board, lab.cases[0])
        yield


def wrong_bitstream(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The board runs another core than the host was told."""
    for config in PRESETS.values():
        if config == lab.transport.config:
            continue
        line = Line(lab.transport, lab.random)
        board = Accelerator(line, config)
        tally.faults += 1
        if lab.attempt(tally, line, lambda board=board: not board.connect()) != "error":
            tally.silent_wrong += 1
        line, board = lab.connect(tally)
        lab.still_usable(tally, line, board, lab.cases[0])
        yield


def weight_bits(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Bits of the loaded weights flip in the board's memory: before the check that ends a load, and
    between a load and a `verify`."""
    pins: PinTransport = lab.transport
    line, board = lab.connect(tally)
    for number in range(count):
        case = lab.random.choice([case for case in lab.cases if len(case.image.weights[0])])
        word = lab.random.randrange(len(case.image.weights[0]))
        mask = 1 << lab.random.randrange(32)
        tally.faults += 1
        if number % 2:
            writes = [0]

            def event(data: bytes, writes: list[int] = writes, word=word, mask=mask) -> bool:
                if _is_digest(data) and not writes[0]:
                    writes[0] = 1
                    pins.flip_weights(word, mask)
                return False

            line.event = event
            if lab.attempt(tally, line, lambda case=case: case.load(board)) != "error":
                tally.silent_wrong += 1
        else:
            case.load(board)
            pins.flip_weights(word, mask)
            lab.attempt(tally, line, lambda: not board.verify())
            pins.flip_weights(word, mask)
            lab.attempt(tally, line, board.verify)
        lab.still_usable(tally, line, board, case)
        yield


def _is_digest(data: bytes) -> bool:
    """Whether this is a request for a CRC of memory."""
    try:
        words = decode_frame(data.strip(b"\0"))
    except FrameError:
        return False
    place = 0
    for name, bits in registers.REQUEST[0]:
        if name == "digest":
            return bool(int(words[0]) >> place & 1)
        place += bits
    return False


BYTES: dict[str, Kind] = {
    "power cut in load": power_in_load,
    "power cut in inference": power_in_inference,
    "power keeps failing": power_keeps_failing,
    "silence": silence,
    "other program's bytes": foreign_bytes,
    "second speaker": second_speaker,
    "other device": other_device,
    "wrong bitstream": wrong_bitstream,
}
"""Kinds that need bytes only; with how many runs."""

PINS: dict[str, Kind] = {
    "reset in load": reset_in_load,
    "reset in inference": reset_in_inference,
    "break": breaks,
    "weight bits": weight_bits,
}
"""Kinds at the board's pins and memory; with how many runs."""
