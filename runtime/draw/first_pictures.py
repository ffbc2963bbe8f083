"""The pictures that warm a generator up, as bodies of requests."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runtime.errors import BackendError, DeviceError, PackageError
from runtime.plan.families.family import Guidance
from runtime.plan.model import Model
from runtime.plan.served import Served

Body = Mapping[str, Any]

logger = logging.getLogger(__name__)


def with_a_lora(model: Model, served: Served) -> list[Body]:
    """A picture with a LoRA, where the model has one and the engines take it."""
    offers = [] if served.fixed_weights else model.loras()[:1]
    return [{"loras": [{"id": each.id, "weight": 1}], **_sizes(served)[0]} for each in offers]


def of_each_size(model: Model, served: Served) -> list[Body]:
    """A picture of each size that engines were tuned for, the most usual one last, since caches
    drop the entry that was used longest ago; without tuned sizes, one of the model's own.

    Where guidance takes a second evaluation there are two of a tuned size, without and with it.
    """
    guided = model.facts.guidance is Guidance.CLASSIFIER_FREE and served.tuned
    scales: list[Body] = [{"cfg_scale": 1}, {"cfg_scale": 2}] if guided else [{}]
    return [{**size, **scale} for size in reversed(_sizes(served)) for scale in scales]


@contextmanager
def skipped() -> Iterator[None]:
    """Skip a picture that cannot be made, with a warning. Raises DeviceError."""
    try:
        yield
    except DeviceError:
        raise
    # A size that no engine takes, a damaged LoRA, or one that lacks memory at this moment: requests
    # for it are refused later.
    except (BackendError, PackageError) as error:
        logger.warning("not warmed up: %s", error)


def _sizes(served: Served) -> list[Body]:
    """Parts of a request's body, the most usual size first."""
    return [{"width": width, "height": height} for width, height in served.tuned] or [{}]
