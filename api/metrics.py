"""Metrics for Prometheus, in a registry of the app's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.figures import job_figures, worker_figures
from runtime.jobs.facts import Counters, WorkerFacts

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Stream = Literal["job", "gallery"]
Refusal = Literal[
    "queue_full", "no_room", "not_ready", "database", "stopping", "over_bound", "connections"
]

STREAMS: tuple[Stream, ...] = get_args(Stream)
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


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
        self._streams = Gauge(
            "calotype_streams_open",
            "Event streams that are open.",
            ["stream"],
            registry=self._registry,
        )
        self._refusals = Counter(
            "calotype_refusals",
            "Requests and connections that were in order and could not be taken at the time.",
            ["reason"],
            registry=self._registry,
        )
        for stream in STREAMS:
            self._streams.labels(stream)
        for reason in REFUSALS:
            self._refusals.labels(reason)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(seconds)

    @contextmanager
    def streaming(self, stream: Stream) -> Iterator[None]:
        """An event stream is open within the block."""
        with self._streams.labels(stream).track_inprogress():
            yield

    def refused(self, reason: Refusal) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc()

    def page(self, counters: Counters, workers: tuple[WorkerFacts, ...]) -> bytes:
        """The page, with the broker's figures as they are now."""
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot([*job_figures(counters), *worker_figures(workers)]))
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
