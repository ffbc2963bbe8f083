"""Places of workers: GPUs by their numbers, and every refusal with its remedy."""

import os
import re
from collections.abc import Callable

import pytest

from api import places as module
from api.gpu_wish import GpuWish, read_gpus
from api.places import PlacesError, chosen_gpus, places
from runtime.backends.catalog import Choice
from runtime.backends.devices import Devices, Gpu
from runtime.wire.options import Place

BIG = Gpu("Big", "sm_90", 80 * 10**9, "13.0")
SMALL = Gpu("Small", "sm_89", 24 * 10**9, "13.0")
ON_BIG = Choice("tensorrt", None, BIG, "it is there")
ON_CPU = Choice("onnxruntime-cpu", None, None, "no target fits")

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this a machine with these GPUs, which CUDA_VISIBLE_DEVICES chooses from as for CUDA:
    a number that is not there ends the list.
    """

    def make(*gpus: Gpu, visible: str | None = None) -> None:
        def look() -> Devices:
            names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(gpus)))))
            found = []
            for name in filter(None, names.split(",")):
                if int(name) >= len(gpus):
                    break
                found.append(gpus[int(name)])
            return Devices(tuple(found), "" if found else "CUDA sees no GPU")

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        monkeypatch.setattr(module, "find_devices", look)

    return make


@pytest.mark.parametrize(
    ("text", "wish"), [("all", "all"), ("0", (0,)), ("2,0", (2, 0)), ("1, 3", (1, 3))]
)
def test_gpus_are_all_or_numbers(text: str, wish: GpuWish) -> None:
    assert read_gpus(text) == wish


@pytest.mark.parametrize("text", ["", "gpu", "0,,1", "-1", "1,1", "0;1", "every"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected all, or different numbers"):
        read_gpus(text)


@pytest.mark.parametrize(
    ("wish", "visible", "names"),
    [
        ("all", None, ("0", "1", "2")),
        ("all", "2,1", ("2", "1")),
        ((2, 0), None, ("2", "0")),
        ((1,), "2,0", ("0",)),
        (None, None, ()),
    ],
)
def test_each_gpu_has_its_name_for_cuda(
    wish: GpuWish | None, visible: str | None, names: tuple[str, ...], machine: Machine
) -> None:
    machine(BIG, BIG, BIG, visible=visible)
    devices, found = chosen_gpus(wish)
    assert found == names
    assert len(devices.gpus) == (len(names) or 3)


@pytest.mark.parametrize(
    ("gpus", "wish", "visible", "words"),
    [
        ((), "all", None, "--gpus all: CUDA sees no GPU"),
        ((BIG,), (0, 2), None, "--gpus 0,2: of these CUDA finds 1 (Big (sm_90, 80.0 GB))"),
        ((BIG, BIG), (1,), "0", "there is no GPU 1, since CUDA_VISIBLE_DEVICES leaves 1: 0"),
        ((BIG, SMALL), "all", None, "they differ (Big (sm_90, 80.0 GB), Small (sm_89, 24.0 GB))"),
    ],
)
def test_gpus_that_cannot_be_had_are_refused(
    gpus: tuple[Gpu, ...], wish: GpuWish, visible: str | None, words: str, machine: Machine
) -> None:
    machine(*gpus, visible=visible)
    with pytest.raises(PlacesError, match=re.escape(words)):
        chosen_gpus(wish)


def test_there_is_a_place_on_each_gpu_or_for_each_share() -> None:
    assert places(["2", "0"], 1, ON_BIG) == (Place(0, 2, "2"), Place(1, 2, "0"))
    assert places(["1"], 1, None) == (Place(0, 1, "1"),)
    assert places([], 1, ON_BIG) == (Place(),)
    assert places([], 3, ON_CPU) == (Place(0, 3), Place(1, 3), Place(2, 3))


@pytest.mark.parametrize(
    ("gpus", "workers", "choice", "words"),
    [
        (["0"], 2, ON_BIG, "--workers 2 shares the CPU's cores"),
        (
            ["0"],
            1,
            ON_CPU,
            "--gpus is of no use, since onnxruntime-cpu draws on the CPU: no target",
        ),
        ([], 2, ON_BIG, "tensorrt draws on Big: take --gpus for a worker on each GPU"),
    ],
)
def test_places_that_contradict_what_draws_are_refused(
    gpus: list[str], workers: int, choice: Choice, words: str
) -> None:
    with pytest.raises(PlacesError, match=re.escape(words)):
        places(gpus, workers, choice)
