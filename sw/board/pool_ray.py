"""Boards of other computers, as Ray actors: each opens a board where it runs."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future

import numpy as np

from ..errors import ProgramMissing, SpikeTicketError
from .batches import Loadable
from .inference import Inference

CHUNK = 8
"""Images of one call: a call to an actor takes about a millisecond."""


class _Board:
    """The actor: one accelerator."""

    def open(self, where: str) -> str:
        from .driver import Accelerator

        self._board = Accelerator.open(where)
        return self._board.transport.name

    def load(self, what: Loadable) -> int:
        return self._board.load(what)

    def infer(self, batch: np.ndarray, masks: np.ndarray | None, counters: bool) -> Inference:
        return self._board.infer(batch, masks, counters=counters)

    def close(self) -> None:
        self._board.close()


class Cluster:
    """Ray, started on this computer or joined at `address`; `close` leaves it."""

    def __init__(self, address: str | None):
        try:
            import ray
        except ImportError:
            raise ProgramMissing("boards at other hosts need Ray; install it: "
                                 "pip install 'spiketicket[sweep]'") from None
        self._ray = ray
        self._started = not ray.is_initialized()
        if not self._started:
            return
        local = {} if address else {"include_dashboard": False, "object_store_memory": 100 << 20}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env={
                "env_vars": {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}},
                **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SpikeTicketError(f"Ray at {address or 'this host'}: "
                                   f"{' '.join(str(error).split())}; start it there (ray start), "
                                   "or leave the hosts out") from None

    def open(self, where: str, host: str) -> RemoteBoard:
        """The board WHERE at a host of the cluster, "" for any."""
        options = {"num_cpus": 0, "max_restarts": 0}  # a live board needs hardly any of its host
        if host:
            if not any(host == node["NodeManagerAddress"] for node in self._ray.nodes()
                       if node["Alive"]):
                known = sorted(node["NodeManagerAddress"] for node in self._ray.nodes())
                raise SpikeTicketError(f"no Ray node at {host!r}; there are {', '.join(known)}")
            options["resources"] = {f"node:{host}": 0.001}  # Ray's own way to choose a node
        actor = self._ray.remote(_Board).options(**options).remote()
        return RemoteBoard(self._ray, actor, where)

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


class RemoteBoard:
    """An actor's board, as a pool needs it. Raises SpikeTicketError if it cannot be opened."""

    def __init__(self, ray, actor, where: str):
        self._ray, self._actor = ray, actor
        try:
            self._get(actor.open.remote(where))
        except BaseException:
            ray.kill(actor)
            raise

    def load(self, what: Loadable) -> int:
        return self._get(self._actor.load.remote(what))

    def submit(self, batch: np.ndarray, masks: np.ndarray | None = None, *,
               counters: bool = False) -> Future[Inference]:
        return self._actor.infer.remote(batch, masks, counters).future()

    def close(self) -> None:
        try:
            self._get(self._actor.close.remote())
        finally:
            self._ray.kill(self._actor)

    def _get(self, reference):
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise SpikeTicketError(str(cause) if isinstance(cause, SpikeTicketError) else
                                   f"{type(cause).__name__}: {cause}") from error
        except self._ray.exceptions.RayError as error:
            raise SpikeTicketError(f"its worker ended: {str(error).splitlines()[0]}") from None
