"""Metrics for Prometheus, in a registry of the app's own."""

from collections.abc import Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.jobs.facts import Counters, WorkerFacts, WorkerState

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of the API; the page adds the broker's figures."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "calotype_http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "calotype_http_response_seconds",
            "From a request to the first byte of its answer.",
            ["method", "route"],
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(seconds)

    def page(self, counters: Counters, workers: tuple[WorkerFacts, ...]) -> bytes:
        """The page, with the broker's figures as they are now."""
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot([*_jobs(counters), *_workers(workers)]))
        return generate_latest(self._registry) + generate_latest(snapshot)


class CountAnswers:
    """Middleware that counts every answer under its route's path, not its own address."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                seconds = perf_counter() - began
                self._metrics.answered(scope["method"], route, message["status"], seconds)
            await send(message)

        await self._app(scope, receive, counted)


class _Snapshot:
    """Collector of fixed figures."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _jobs(counters: Counters) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("calotype_jobs", "Jobs that have not ended.", labels=["status"])
    jobs.add_metric(["queued"], counters.queued)
    jobs.add_metric(["processing"], counters.processing)
    yield jobs
    ended = CounterMetricFamily("calotype_jobs_ended", "Jobs that ended.", labels=["status"])
    for status, count in counters.ended.items():
        ended.add_metric([status], count)
    yield ended
    sums = {
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
    }
    for name, (text, value) in sums.items():
        yield CounterMetricFamily(f"calotype_{name}", text, value=value)


def _workers(workers: tuple[WorkerFacts, ...]) -> Iterator[Metric]:
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
