"""The broker's and the workers' figures as metrics for Prometheus."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from runtime.jobs.facts import Counters, WorkerFacts, WorkerState
from runtime.jobs.tally import Tally


def job_figures(counters: Counters) -> Iterator[Metric]:
    """Figures of all jobs since the start of the server."""
    jobs = GaugeMetricFamily("calotype_jobs", "Jobs that have not ended.", labels=["status"])
    jobs.add_metric(["queued"], counters.queued)
    jobs.add_metric(["processing"], counters.processing)
    yield jobs
    ended = CounterMetricFamily("calotype_jobs_ended", "Jobs that ended.", labels=["status"])
    for status, count in counters.ended.items():
        ended.add_metric([status], count)
    yield ended
    for name, (text, value) in _sums(counters).items():
        yield CounterMetricFamily(f"calotype_{name}", text, value=value)
    yield from _histograms(counters)


def _sums(counters: Counters) -> Mapping[str, tuple[str, float]]:
    return {
        "jobs_submitted": ("Jobs taken.", counters.submitted),
        "attempts_lost": ("Attempts that ended with their worker.", counters.attempts_lost),
        "steps": ("Steps made.", counters.steps),
        "step_seconds": (
            "From each step to the next of its job, with the turns of other jobs, over these.",
            counters.step_seconds,
        ),
        "job_seconds": ("From lease to end, over completed jobs.", counters.job_seconds),
        "previews": ("Previews made.", counters.previews),
        "previews_dropped": (
            "Previews that gave way to that of a later step, or to the end of their job.",
            counters.previews_dropped,
        ),
        "denoiser_calls": (
            "Calls of the denoiser that followed another one with no rest between the two.",
            counters.calls,
        ),
        "host_seconds": (
            "Time from the return of a call of the denoiser to the begin of the next, over these.",
            counters.host_seconds,
        ),
        "loop_starts": (
            "Calls of the denoiser that ended a rest, in which no picture was there to be drawn.",
            counters.starts,
        ),
        "idle_seconds": (
            "The parts of these rests in which a worker had a job whose picture was not ready.",
            counters.idle_seconds,
        ),
        "conditioning_hits": ("Prompts not encoded anew.", counters.conditioning_hits),
        "conditioning_misses": ("Prompts encoded.", counters.conditioning_misses),
        "conditioning_seconds": (
            "Time to encode prompts, with the opening of text encoders that are put aside.",
            counters.conditioning_seconds,
        ),
        "lora_changes": ("Changes of the LoRA set on the denoiser.", counters.lora_changes),
        "lora_seconds": ("Time that these took, in which no step was made.", counters.lora_seconds),
    }


def _histograms(counters: Counters) -> Iterator[Metric]:
    waits = {
        "queue_wait_seconds": ("From a job's submission to its first lease.", counters.queue_waits),
        "first_step_wait_seconds": (
            "From a job's submission to the end of its first step.",
            counters.first_step_waits,
        ),
        "job_turnaround_seconds": (
            "From a job's submission to its end, of completed jobs.",
            counters.turnarounds,
        ),
        "batch_samples": ("Samples of each call of the denoiser.", counters.batches),
    }
    for name, (text, tally) in waits.items():
        family = HistogramMetricFamily(f"calotype_{name}", text)
        _fill(family, [], tally)
        yield family
    stages = HistogramMetricFamily(
        "calotype_stage_seconds",
        "Time of stages of a worker's threads. A step is a call of the denoiser, for all samples "
        "in it.",
        labels=["stage"],
    )
    for stage, tally in counters.stages.items():
        _fill(stages, [stage], tally)
    yield stages


def _fill(family: HistogramMetricFamily, labels: list[str], tally: Tally) -> None:
    family.add_metric(labels, buckets=list(tally.cumulative()), sum_value=tally.total)


def worker_figures(workers: tuple[WorkerFacts, ...]) -> Iterator[Metric]:
    """Figures of the worker processes, as they are now."""
    ready = sum(worker.state is WorkerState.READY for worker in workers)
    yield GaugeMetricFamily("calotype_workers_ready", "Workers that draw.", value=ready)
    restarts = sum(worker.restarts for worker in workers)
    yield CounterMetricFamily("calotype_worker_restarts", "Workers replaced.", value=restarts)
    memory = GaugeMetricFamily(
        "calotype_device_memory_bytes",
        "Memory of the workers' devices: what they use it for, what is free, the total.",
        labels=["worker", "use"],
    )
    for number, worker in enumerate(workers):
        for use, size in worker.device_memory.items():
            memory.add_metric([str(number), use], size)
    yield memory
    yield from _model_figures(workers)


def _model_figures(workers: tuple[WorkerFacts, ...]) -> Iterator[Metric]:
    """Figures of the models that workers load and give up."""
    loads = CounterMetricFamily(
        "calotype_model_loads",
        "Models loaded for jobs, beside the first of each worker at its start.",
        labels=["model"],
    )
    seconds = CounterMetricFamily(
        "calotype_model_load_seconds",
        "Time that these took, with the giving up of others.",
        labels=["model"],
    )
    for name in dict.fromkeys(name for worker in workers for name in worker.loads):
        made = [worker.loads[name] for worker in workers if name in worker.loads]
        loads.add_metric([name], sum(each.count for each in made))
        seconds.add_metric([name], sum(each.seconds for each in made))
    yield loads
    yield seconds
    evictions = sum(worker.evictions for worker in workers)
    yield CounterMetricFamily(
        "calotype_model_evictions", "Models given up for others' memory.", value=evictions
    )
