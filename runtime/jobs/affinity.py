"""The models whose jobs a worker is given next: a pure function of what waits and what is loaded.

A worker loads a model when it has a job for it, and may have to give up another for that. So jobs
of models that it has, or has room for, go before those of a *far* model, until the job of a far one
has waited SHARE times what it takes to load the model and the one that goes. Only the wait since
the last loading counts: where all models have more jobs than can be drawn, a SHAREth of the time at
most goes into switching. Then the worker gets jobs of that model alone: what it holds is drawn, the
model is loaded, and the others become far.

A job of batch priority lets interactive jobs pass for as much longer as everywhere else. Where no
job waits that could be drawn without a loading, none waits for one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from runtime.wire.messages import Shelved

SHARE = 10
LONGEST = 60.0
"""The most seconds that an interactive job waits while jobs of loaded models go before it."""
BATCH = 20
"""A job of batch priority waits so many times as long while interactive ones go before it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits."""

    model: str
    urgent: bool
    """False for batch priority."""
    seconds: float
    """Since its submission."""


def next_models(
    queue: Iterable[Waiting], shelf: Shelved, held: Collection[str], settled: float
) -> Collection[str]:
    """The models of the jobs that a worker with this shelf may be given; `held`: those of the jobs
    that it has; `settled`: seconds since its models have changed.
    """
    near = {*shelf.loaded, *shelf.beside}
    pending = {*held} - {*shelf.loaded}
    if pending - near:
        return pending
    oldest = _oldest(queue)
    waiting_near = [job for job in oldest if job.model in near]
    urgent_near = any(job.urgent for job in waiting_near)
    far = [job for job in oldest if job.model not in near]
    due = [
        job
        for job in far
        if not waiting_near
        or (job.urgent and not urgent_near)
        or min(job.seconds, settled) >= patience(job, shelf, urgent_near=urgent_near)
    ]
    if not due:
        return near
    return {max(due, key=lambda job: (job.urgent, job.seconds)).model}


def patience(job: Waiting, shelf: Shelved, *, urgent_near: bool) -> float:
    """Seconds for which jobs of loaded models go before a job of a far one."""
    back = max((shelf.seconds.get(name, 0.0) for name in shelf.loaded), default=0.0)
    longest = min(SHARE * (shelf.seconds.get(job.model, 0.0) + back), LONGEST)
    return longest if job.urgent or not urgent_near else BATCH * longest


def _oldest(queue: Iterable[Waiting]) -> Collection[Waiting]:
    """Of each model and priority, the job that has waited longest."""
    found: dict[tuple[str, bool], Waiting] = {}
    for job in queue:
        kind = (job.model, job.urgent)
        if kind not in found or job.seconds > found[kind].seconds:
            found[kind] = job
    return found.values()
