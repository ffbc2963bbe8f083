"""The broker that settings ask for: that of one machine, or of a cluster."""

from collections.abc import Sequence

from api.settings import MEGABYTE, Settings
from runtime.errors import CalotypeError
from runtime.jobs.local import LocalBroker
from runtime.jobs.worker_side import OpenedBroker


class NoClient(CalotypeError):
    """The library that speaks with the cluster is not installed."""


class OneModel(CalotypeError):
    """Several models were asked for where one alone is served."""


def broker_of(settings: Settings, models: Sequence[str]) -> OpenedBroker:
    """The broker for a server of these models, not opened yet. Raises NoClient, OneModel."""
    model, *others = models
    if settings.broker is None:
        return LocalBroker(
            settings.data,
            model,
            queue_limit=settings.queue_limit,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            disk_reserve_bytes=settings.disk_reserve_mb * MEGABYTE,
            retention=settings.retention,
            others=others,
        )
    if others:
        raise OneModel(
            f"--model {settings.model}: each of a cluster's servers and workers serves one model; "
            "give one, and start others beside it for another"
        )
    try:
        from runtime.jobs.jetstream.broker import JetStreamBroker
    except ModuleNotFoundError as error:
        if error.name != "nats":
            raise
        raise NoClient(
            f"--broker {settings.broker} needs nats-py: pip install 'calotype[nats]'"
        ) from error
    return JetStreamBroker(
        settings.broker,
        settings.data,
        model,
        queue_limit=settings.queue_limit,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        name=settings.broker_stream,
        replicas=settings.broker_replicas,
    )
