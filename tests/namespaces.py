"""Two boards on two networks, in network namespaces; run by `test_namespaces` in one of its own.

    unshare -n python -m tests.namespaces LIBRARY       # prints what it found as JSON

Nothing leaves the namespaces: each board's is joined to this one by a pair of virtual interfaces.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

from sim.board import SimTransport
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.errors import SpikeTicketError

from .tiny_board import TINY, random_case
from .udp_board import FakeBoard

HOSTS = {1: ["10.7.1.1/24"], 2: ["10.9.9.1/24", "10.7.2.1/24"]}
"""Of this end, by board; as `ip address add` takes them, so that no broadcast address is set. The
second board is in the network of its interface's second address."""


def ip(*arguments: object) -> None:
    subprocess.run(["ip", *map(str, arguments)], check=True)


def serve(number: int, library: Path) -> None:
    """A board in a namespace of its own, once its interface is there, until input ends."""
    print("here", flush=True)
    sys.stdin.readline()
    ip("address", "add", f"10.7.{number}.50/24", "dev", "cable")
    ip("link", "set", "cable", "up")
    with FakeBoard(SimTransport(TINY, library=library), ("0.0.0.0", 21328)):
        print("ready", flush=True)
        sys.stdin.readline()


@contextlib.contextmanager
def board(number: int, library: Path):
    """A board's process, and the cable to it, "h1" or "h2" at this end."""
    with subprocess.Popen(["unshare", "-n", sys.executable, "-m", "tests.namespaces", library,
                           str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert process.stdout.readline() == "here\n"
            ip("link", "add", "name", f"h{number}", "type", "veth", "peer", "name", "cable",
               "netns", process.pid)
            for address in HOSTS[number]:
                ip("address", "add", address, "dev", f"h{number}")
            ip("link", "set", f"h{number}", "up")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.stdin.close()


def listed(*arguments: str) -> list[dict]:
    """What `spiketicket boards` says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["boards", *arguments, "--json"])
    return json.loads(out.getvalue())


def run(library: Path) -> dict:
    image, inputs, logits = random_case(5, 4)
    with board(1, library), board(2, library):
        found = {"free": listed()}
        with Accelerator.open("udp://10.7.2.50") as open_board:
            open_board.load(image)
            open_board.infer(inputs)
            found["held"] = listed()
            found["one network"] = listed("--call", "10.7.1.255")
            ip("link", "set", "h2", "down")
            try:
                open_board.infer(inputs)
            except SpikeTicketError as error:
                found["pulled"] = str(error)
            found["without it"] = listed()
            ip("link", "set", "h2", "up")
            found["right"] = bool((open_board.infer(inputs).logits == logits).all())
    return found


if __name__ == "__main__":
    given = Path(sys.argv[1])
    if len(sys.argv) > 2:
        serve(int(sys.argv[2]), given)
    else:
        print(json.dumps(run(given)))
