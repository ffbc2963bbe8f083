"""A machine that draws for a cluster: broker and workers, with no HTTP before them."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import uvloop

from api.brokers import broker_of
from api.drawn import Drawn
from api.settings import Settings
from runtime.jobs.fleet import Fleet
from runtime.jobs.process import WorkerProcess


def draw_for_cluster(
    settings: Settings, drawn: Drawn, worker: WorkerProcess, announce: Callable[[str], None]
) -> None:
    """Draw until SIGTERM, SIGINT or SIGHUP: a worker at each place, the first by `worker`.

    Raises CalotypeError: WorkerFailed where nothing can be drawn, ClusterFault where the cluster is
    not there.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_draw(settings, drawn, worker, announce))


async def _draw(
    settings: Settings, drawn: Drawn, worker: WorkerProcess, announce: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    preparation = drawn.preparation
    options = settings.worker.drawn_by("auto") if preparation else settings.worker
    placed = [replace(options, place=place) for place in drawn.places]
    broker = broker_of(settings, drawn.models.names)
    async with broker, Fleet(broker, placed, worker) as fleet:
        announce(f"Drawing {drawn.models.default.name} for {settings.broker}")
        async with preparation.beside(fleet) if preparation else nullcontext():
            failing = asyncio.create_task(fleet.failure())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait([failing, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if failing.done():
                raise failing.result()
            failing.cancel()
            broker.stop()
