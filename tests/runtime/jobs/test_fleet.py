"""Several workers of one server: replaced one after the other, and none that can start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.jobs.facts import WorkerState
from runtime.jobs.fleet import Fleet
from runtime.jobs.local import LocalBroker
from runtime.jobs.supervisor import WorkerFailed
from runtime.wire.options import DrawOptions, Place, WorkerOptions
from tests.runtime.jobs.serving import MODEL


@asynccontextmanager
async def fleet_of(count: int, engines: Path, data: Path) -> AsyncIterator[Fleet]:
    """So many workers on shares of the CPU; a test that hangs fails."""
    options = WorkerOptions(engines, MODEL, data, 60, DrawOptions("onnxruntime-cpu"))
    placed = [replace(options, place=Place(number, count)) for number in range(count)]
    broker = LocalBroker(data, MODEL, queue_limit=10, lease_seconds=60, max_attempts=3)
    async with asyncio.timeout(240), broker, Fleet(broker, placed) as fleet:
        yield fleet


def test_workers_are_renewed_one_after_the_other(tiny_package: Path, tmp_path: Path) -> None:
    async def watch(fleet: Fleet, seen: set[bool]) -> None:
        while True:
            seen.add(fleet.ready)
            await asyncio.sleep(0.01)

    async def check() -> None:
        async with fleet_of(2, tiny_package, tmp_path) as fleet:
            await fleet.wait_ready()
            while {worker.state for worker in fleet.workers} != {WorkerState.READY}:
                await asyncio.sleep(0.01)
            before = [worker.pid for worker in fleet.workers]
            seen: set[bool] = set()
            watching = asyncio.create_task(watch(fleet, seen))
            await fleet.renew("onnxruntime-cpu")
            watching.cancel()
            assert seen == {True}
            assert not {worker.pid for worker in fleet.workers} & set(before)
            assert [worker.state for worker in fleet.workers] == [WorkerState.READY] * 2
            assert [worker.restarts for worker in fleet.workers] == [0, 0]
            assert fleet.engine is not None

    asyncio.run(check())


def test_where_no_worker_can_start_the_reason_is_told(tmp_path: Path) -> None:
    async def check() -> None:
        async with fleet_of(2, tmp_path / "nothing", tmp_path / "data") as fleet:
            with pytest.raises(WorkerFailed, match="nothing"):
                await fleet.wait_ready()
            assert "nothing" in str(await fleet.failure())
            assert not fleet.ready
            with pytest.raises(WorkerFailed, match="nothing"):
                await fleet.renew("auto")

    asyncio.run(check())
