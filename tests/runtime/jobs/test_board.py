"""The board counts what operators ask for, each thing once."""

from pathlib import Path

from runtime.wire.messages import TIMED, Paced
from tests.runtime.jobs.support import Hand, open_broker, run, submit


def test_a_jobs_waits_are_counted_once_however_often_it_is_tried(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            for steps in (2, 1):
                worker = Hand(broker)
                await worker.lease()
                for step in range(1, steps + 1):
                    worker.step(job.job_id, step)
                if steps == 2:
                    await worker.die()
            await worker.complete(job.job_id)
            canceled = await submit(broker)
            await broker.cancel(canceled.job_id)
            counters = broker.counters()
            waits = (counters.queue_waits, counters.first_step_waits, counters.turnarounds)
            assert [sum(tally.counts) for tally in waits] == [1, 1, 1]
            queue, first, all_in_all = (tally.total for tally in waits)
            assert 0 < queue <= first <= all_in_all

    run(check())


def test_what_a_worker_measured_is_added_up(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            broker.leases.timed({"step": [0.25, 0.5], "save": [0.125]})
            broker.leases.timed({"step": [0.25]})
            broker.leases.paced(Paced(lora_changes=2, lora_seconds=0.5, batches={"1": 3, "4": 2}))
            broker.leases.paced(Paced(lora_changes=1, lora_seconds=0.25, batches={"4": 1}))
            counters = broker.counters()
            stages = {name: tally.total for name, tally in counters.stages.items()}
            assert stages == {**dict.fromkeys(TIMED, 0.0), "step": 1.0, "save": 0.125}
            assert sum(counters.stages["step"].counts) == 3
            assert (counters.lora_changes, counters.lora_seconds) == (3, 0.75)
            assert list(counters.batches.cumulative())[:4] == [
                *(("1.0", 3), ("2.0", 3), ("3.0", 3), ("4.0", 6))
            ]
            assert counters.batches.total == 15

    run(check())
