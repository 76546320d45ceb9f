"""Ways to reach a board: a serial port, or the simulated board; the driver sees a `Transport`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from hw.boards import BOARDS
from hw.config import CoreConfig
from hw.registers import DEFAULT_BAUD

from .errors import SpikeTicketError


class Transport(ABC):
    """Bytes to and from one board.

    name: how to call it in messages. baud: the line's rate, None where there is no line.
    """

    name: str
    baud: int | None = None

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

    def set_baud(self, baud: int) -> None:
        """Change the rate of the line."""
        raise SpikeTicketError(f"{self.name} has no baud rate to set")


class SerialTransport(Transport):
    """A board on a serial port (pyserial); `port` is a device or a pyserial URL.

    Raises SpikeTicketError if the port cannot be opened, and whenever it vanishes.
    """

    BREAK_SECONDS = 0.02

    def __init__(self, port: str, baud: int = DEFAULT_BAUD):
        import serial  # only who has a board needs pyserial

        self.name, self.baud = port, baud
        self._errors = (serial.SerialException, OSError)
        try:
            self._serial = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=10)
        except (*self._errors, ValueError) as error:
            raise SpikeTicketError(f"{port}: cannot be opened ({error}); "
                                   "name the board's port with --port") from None

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except self._errors as error:
            raise self._gone(error) from None

    def read(self, timeout: float) -> bytes:
        try:
            self._serial.timeout = timeout
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except self._errors as error:
            raise self._gone(error) from None

    def reset(self) -> None:
        try:
            self._serial.baudrate = self.baud = DEFAULT_BAUD
            self._serial.send_break(self.BREAK_SECONDS)
            time.sleep(self.BREAK_SECONDS)
            self._serial.reset_input_buffer()
        except self._errors as error:
            raise self._gone(error) from None

    def set_baud(self, baud: int) -> None:
        try:
            self._serial.flush()
            self._serial.baudrate = self.baud = baud
        except (*self._errors, ValueError) as error:
            raise self._gone(error) from None

    def close(self) -> None:
        self._serial.close()

    def _gone(self, error: Exception) -> SpikeTicketError:
        return SpikeTicketError(f"{self.name}: the board is gone ({error}); plug it in, try again")


def open_transport(board: str, port: str | None = None, baud: int = DEFAULT_BAUD,
                   progress: bool = True, config: CoreConfig | None = None) -> Transport:
    """Transport to a board of `hw.boards`: "sim" builds and starts the simulated one.

    Any other needs its serial port; `baud` is the rate the board is set to now. config: core of the
    simulated board, None: the board's own.
    """
    if board == "sim":
        from sim.board import SimTransport  # only the simulated board needs the gateware

        return SimTransport(config or BOARDS[board].config, progress=progress)
    if port is None:
        raise SpikeTicketError(f"board {board!r} needs its port: --port /dev/ttyUSB1, for example")
    return SerialTransport(port, baud)
