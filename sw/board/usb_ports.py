"""This computer's serial ports, and the boards whose USB bridge they may belong to. Opens none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hw.boards import BOARDS

from ..errors import ProgramMissing


@dataclass(frozen=True)
class Port:
    """A serial port. usb: (vendor, product) or None; boards: names of `hw.boards` that its USB
    bridge may belong to; serial_number, title: as the USB device says."""

    device: str
    usb: tuple[int, int] | None = None
    boards: tuple[str, ...] = ()
    serial_number: str = ""
    title: str = ""


def list_ports() -> list:
    """pyserial's description of every serial port, by device name."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        raise ProgramMissing("listing serial ports needs the Python package pyserial; install "
                             "it: pip install pyserial") from None
    return sorted(comports(), key=lambda info: info.device)


def interface_of(info) -> int | None:
    """Interface of a USB device that a port is, from 0; None where the system does not tell."""
    if found := re.search(r":\d+\.(\d+)$", info.location or ""):  # Linux: 1-2:1.1
        return int(found[1])
    if info.serial_number and (found := re.search(r"[A-D]$", info.serial_number)):  # Windows
        return ord(found[0]) - ord("A")
    if found := re.search(r"usbserial-.*?([0-3])$", info.device):  # macOS: a digit is appended
        return int(found[1])
    return None


def boards_of(info) -> tuple[str, ...]:
    """Boards whose serial port this may be, by its USB numbers."""
    interface = interface_of(info)
    return tuple(board.name for board in BOARDS.values()
                 if board.usb and (info.vid, info.pid) == board.usb[:2]
                 and interface in (None, board.usb[2]))


def describe(info) -> Port:
    """A port of pyserial's list."""
    usb = (info.vid, info.pid) if info.vid is not None else None
    title = " ".join(part for part in (info.manufacturer, info.product) if part)
    return Port(info.device, usb, boards_of(info), info.serial_number or "", title)


def find(board: str | None = None) -> list[Port]:
    """Ports whose USB bridge is that of a supported board, or of `board`. Opens none."""
    found = [describe(info) for info in list_ports()]
    return [port for port in found if (board in port.boards if board else port.boards)]


def named(device: str) -> Port:
    """The port of this name; what USB says of it if it is listed."""
    return next((describe(info) for info in list_ports() if info.device == device), Port(device))
