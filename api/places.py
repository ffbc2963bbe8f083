"""Workers' places on a machine: a GPU for each, or a share of the CPU."""

import os
from collections.abc import Sequence

from api.gpu_wish import GpuWish
from runtime.backends.catalog import Choice
from runtime.backends.devices import Devices, find_devices
from runtime.errors import CalotypeError
from runtime.wire.options import Place

VISIBLE = "CUDA_VISIBLE_DEVICES"


class PlacesError(CalotypeError):
    """Workers that this machine has no place for."""


def chosen_gpus(wish: GpuWish | None) -> tuple[Devices, tuple[str, ...]]:
    """The GPUs that the server may use, and for each of those that were asked for its name in
    `CUDA_VISIBLE_DEVICES`. None that were not asked for is seen any more by this process and those
    that it starts. CUDA must not have been used before.

    Raises PlacesError where one is not there, or they differ: engines are compiled for one kind.
    """
    if wish is None:
        return find_devices(), ()
    asked = "all" if wish == "all" else ",".join(map(str, wish))
    visible = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    if wish == "all":
        devices = find_devices()
        names = visible or [str(number) for number in range(len(devices.gpus))]
    else:
        names = [_named(number, visible) for number in wish]
        os.environ[VISIBLE] = ",".join(names)
        devices = find_devices()
    found = ", ".join(map(str, devices.gpus))
    if not devices.gpus:
        raise PlacesError(f"--gpus {asked}: {devices.reason}")
    if len(devices.gpus) < len(names):
        raise PlacesError(
            f"--gpus {asked}: of these CUDA finds {len(devices.gpus)} ({found}); nvidia-smi -L "
            "lists what there is"
        )
    if len({(gpu.name, gpu.compute_capability) for gpu in devices.gpus}) > 1:
        raise PlacesError(
            f"--gpus {asked}: they differ ({found}), and one server draws on GPUs of one kind; "
            "start a server for each kind, each with a --data of its own"
        )
    return devices, tuple(names)


def places(gpus: Sequence[str], workers: int, choice: Choice | None) -> tuple[Place, ...]:
    """A place for each worker: on each of the GPUs, by their names in `CUDA_VISIBLE_DEVICES`, or
    without any so many shares of the CPU. `choice` is what draws, where that is known already.

    Raises PlacesError.
    """
    if gpus:
        if workers > 1:
            raise PlacesError(
                f"--workers {workers} shares the CPU's cores among workers, and --gpus has one "
                "worker on each GPU: give one of the two"
            )
        if choice and choice.gpu is None:
            raise PlacesError(
                f"--gpus is of no use, since {choice.backend} draws on the CPU: {choice.note}"
            )
        return tuple(Place(number, len(gpus), name) for number, name in enumerate(gpus))
    if workers > 1 and choice and choice.gpu is not None:
        raise PlacesError(
            f"--workers {workers} shares the CPU's cores among workers, and {choice.backend} draws "
            f"on {choice.device}: take --gpus for a worker on each GPU"
        )
    return tuple(Place(number, workers) for number in range(workers))


def _named(number: int, visible: Sequence[str]) -> str:
    """The name of a GPU for CUDA, where the environment may have chosen some before."""
    if not visible:
        return str(number)
    if number >= len(visible):
        raise PlacesError(
            f"--gpus: there is no GPU {number}, since {VISIBLE} leaves {len(visible)}: "
            f"{','.join(visible)}"
        )
    return visible[number]
