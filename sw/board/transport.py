"""Ways to reach a board: a serial port, or the simulated board; the driver sees a `Transport`."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from hw.registers import DEFAULT_BAUD

from ..errors import BoardError, BoardSilent, ProgramMissing, SpikeTicketError
from . import usb_ports
from .board_clock import BoardTime
from .protocol import FrameSizes

try:
    from termios import error as _termios_error
    _TERMIOS = (_termios_error,)
except ImportError:  # no POSIX system
    _TERMIOS = ()


class Transport(ABC):
    """Bytes to and from one board.

    name: how to call it in messages. baud: the line's rate now, None where there is no line.
    first_baud: its rate after `reset`; None where the rate is not the board's to change.
    frames: words of payload of the frames to the board.
    advice: what to check where no answer comes.
    random_below: a number from 0 to n - 1, for what a session must not repeat; a recording gives
    its own, so that a session can be replayed.
    network: whether datagrams of 100 Mbit Ethernet carry the bytes, at no rate of their own.
    simulated: whether the far end is a simulated board. timed: whether bytes take their time on the
    line, as `now` counts it.
    """

    name: str
    network: bool = False
    simulated: bool = False
    timed: bool = True
    baud: int | None = None
    first_baud: int | None = None
    frames: FrameSizes = FrameSizes()
    advice: str = "check cable, port, baud rate and that the bitstream is SpikeTicket's"
    random_below: Callable[[int], int] = staticmethod(secrets.randbelow)

    @property
    def faster(self) -> bool:
        """Whether the line's rate is above the one that `reset` brings back."""
        return bool(self.baud and self.first_baud and self.baud > self.first_baud)

    @property
    def title(self) -> str:
        """The name, and that a simulated board is there where the name does not say so."""
        told = not self.simulated or "simulated" in self.name
        return self.name if told else f"{self.name}, a simulated board"

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises SpikeTicketError if the board is gone."""

    @abstractmethod
    def read(self, timeout: float) -> bytes:
        """Bytes that have come, at least one; b"" if none comes within `timeout` seconds."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the board; further calls fail."""

    @abstractmethod
    def reset(self) -> None:
        """Bring the line back to its power-up state (a break on a serial line)."""

    def now(self) -> float:
        """Seconds, for timeouts; a simulated line may count its own."""
        return time.monotonic()

    def set_baud(self, baud: int) -> None:
        """Change the rate of the line at this end."""
        raise BoardError(f"{self.name} has no baud rate to set")


class OpenedTransport(Transport):
    """A way to what stands at a port or address: a live board, or a simulated one that is served
    there (`sim.serve`), by whose own time all waiting is then."""

    def __init__(self):
        self._time = BoardTime()

    @property
    def simulated(self) -> bool:
        return self._time.clock is not None

    @property
    def timed(self) -> bool:
        return self._time.clock is None

    def now(self) -> float:
        return self._time.now()


class SerialTransport(OpenedTransport):
    """A board on a serial port (pyserial); `port` is a device or a pyserial URL.

    baud: the board's rate after power-up and after a break, as it was built.
    The port is taken for this program alone. If it vanishes, every call raises SpikeTicketError
    until the port can be opened again, under its old name or, after it was plugged in elsewhere,
    by its USB serial number. Raises SpikeTicketError if the port cannot be opened. Where a
    simulated board is behind the port (`sim.serve`), all waiting is by the board's own time.
    """

    BREAK_SECONDS = 0.02

    def __init__(self, port: str, baud: int = DEFAULT_BAUD):
        try:
            import serial  # only who has a board needs pyserial
        except ImportError:
            raise ProgramMissing("a board on a serial port needs the Python package pyserial; "
                                 "install it: pip install pyserial") from None
        super().__init__()
        self.name, self.baud, self.first_baud = port, baud, baud
        self._errors = (serial.SerialException, OSError, *_TERMIOS)
        self._serial: serial.SerialBase | None = None
        self._closed = False
        self._usb = None
        self._open(port)
        self._usb = _usb_address(port)

    def _open(self, port: str) -> None:
        import serial

        options = {"baudrate": self.baud, "timeout": 0, "write_timeout": 10}
        if "://" not in port:
            options["exclusive"] = True
        try:
            self._serial = serial.serial_for_url(port, **options)
        except (*self._errors, ValueError) as error:
            raise BoardSilent(f"{port}: cannot be opened ({_reason(error)}); "
                              f"{_remedy(error)}") from None
        self._time.follow(port)
        if self._time.clock is not None:
            self._serial.write_timeout = self._time.STALLED
        # USB bridges otherwise keep a short answer for 16 ms; not every port has the setting.
        with contextlib.suppress(AttributeError, NotImplementedError, ValueError, OSError):
            self._serial.set_low_latency_mode(True)

    def _port(self):
        """The open port; opened again if it had vanished."""
        if self._closed:
            raise BoardError(f"{self.name}: the connection was closed; open it again")
        if self._serial is None:
            self.baud = self.first_baud
            try:
                self._open(self.name)
            except SpikeTicketError:
                moved = self._usb and _port_of(self._usb)
                if not moved:
                    raise
                self._open(moved)
                self.name = moved
        return self._serial

    def write(self, data: bytes) -> None:
        port = self._port()
        try:
            port.write(data)
        except self._errors as error:
            raise self._gone(error) from None

    def read(self, timeout: float) -> bytes:
        port = self._port()

        def receive(seconds: float) -> bytes:
            port.timeout = seconds
            first = port.read(1)
            return first and first + port.read(port.in_waiting)

        try:
            return self._time.wait(receive, timeout)
        except (*self._errors, TypeError) as error:  # TypeError: pyserial, a port that vanishes
            raise self._gone(error) from None

    def reset(self) -> None:
        port = self._port()
        try:
            port.baudrate = self.baud = self.first_baud
            with contextlib.suppress(*self._errors):  # a pseudo-terminal has no break
                port.send_break(self.BREAK_SECONDS)
            time.sleep(self.BREAK_SECONDS)
            port.reset_input_buffer()
        except self._errors as error:
            raise self._gone(error) from None

    def set_baud(self, baud: int) -> None:
        port = self._port()
        try:
            port.flush()
            port.baudrate = self.baud = baud
        except (*self._errors, ValueError) as error:
            raise self._gone(error) from None

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        if self._serial is not None:
            with contextlib.suppress(*self._errors):
                self._serial.close()
            self._serial = None

    def _gone(self, error: Exception) -> SpikeTicketError:
        self._drop()
        return BoardError(f"{self.name}: the board is gone ({_reason(error)}); plug it in, "
                          "try again")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def _remedy(error: Exception) -> str:
    """What to do about a port that cannot be opened."""
    text = str(error).lower()
    if "permission" in text or "access is denied" in text:
        return ("this user may not use it: sudo usermod -aG dialout $USER, then log in again"
                if sys.platform.startswith("linux") else "close the program that uses it")
    if "exclusively lock" in text or "busy" in text or "temporarily unavailable" in text:
        return "another program uses it: close that first"
    return "name the board's port with --port (spiketicket boards lists them)"


def _usb_address(port: str) -> tuple | None:
    """(vendor, product, serial number, interface) of a USB serial port, None for any other."""
    for info in usb_ports.list_ports():
        if info.device == port and info.vid is not None and info.serial_number:
            return info.vid, info.pid, info.serial_number, usb_ports.interface_of(info)
    return None


def _port_of(usb: tuple) -> str | None:
    """The port that has this `_usb_address` now."""
    return next((info.device for info in usb_ports.list_ports()
                 if _usb_address(info.device) == usb), None)
