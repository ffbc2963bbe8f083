"""Limits of a target, and the pictures of a call by its measured step times."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.profiles import Profiles
from runtime.errors import BackendError, RequestError
from runtime.package.engine_record import StepTime
from runtime.package.manifest import InputRecord, read_manifest
from runtime.package.target import Profile, Range, Target
from runtime.plan.model import Model, open_model
from runtime.plan.plan import Plan
from runtime.plan.served import BatchLimits, Served, SizeRange, served_by
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

SQUARE = SizeRange(64, 64, 64, 64)
WIDE = SizeRange(96, 128, 64, 96)
SIZES = Served(BatchLimits(1, 2), sizes=(SQUARE, WIDE), other_sizes="compile with --sizes")
FIXED = replace(SIZES, fixed_weights="compiled with fixed weights")


@pytest.fixture(scope="module")
def model() -> Model:
    """The committed demo model, with its LoRA."""
    return open_model(ENGINES, "demo")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Some target of it."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "manifest.json").write_bytes((ENGINES / "demo" / "manifest.json").read_bytes())
    return add_target(folder, Made())


def plan(model: Model, width: int, height: int, **body: Any) -> Plan:
    request = {"prompt": "a red heart", "width": width, "height": height, **body}
    return model.plan(model.read(request))


def lora(model: Model, weight: float) -> dict[str, Any]:
    return {"loras": [{"id": model.loras()[0].id, "weight": weight}]}


# Sizes and LoRAs ------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64), (128, 96)])
def test_a_size_that_some_engine_takes_is_let_through(
    model: Model, width: int, height: int
) -> None:
    SIZES.check(plan(model, width, height))


@pytest.mark.parametrize(
    ("width", "height", "pointer"),
    [(160, 64, "/width"), (160, 160, "/width"), (64, 96, "/height"), (128, 128, "/height")],
)
def test_another_is_refused_once_with_those_that_are_taken_and_the_remedy(
    model: Model, width: int, height: int, pointer: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        SIZES.check(plan(model, width, height))
    [fault] = refusal.value.faults
    assert fault.pointer == pointer
    assert fault.detail == (
        f"no engine takes {width}x{height} pixels; they take 64x64, (96 to 128)x(64 to 96); "
        "compile with --sizes"
    )


def test_fixed_weights_refuse_what_acts_and_every_fault_is_told(model: Model) -> None:
    FIXED.check(plan(model, 64, 64, **lora(model, 0)))
    with pytest.raises(RequestError) as refusal:
        FIXED.check(plan(model, 160, 64, **lora(model, 1)))
    assert [fault.pointer for fault in refusal.value.faults] == ["/width", "/loras"]
    assert "\n" not in str(refusal.value)


WORDS = "red heart, " * 40


@pytest.mark.parametrize(
    ("texts", "pointer"),
    [
        ({"prompt": WORDS}, "/prompt"),
        ({"prompt": "a red heart", "negative_prompt": WORDS}, "/negative_prompt"),
        ({"prompt": WORDS, "negative_prompt": "blue"}, "/prompt"),
    ],
)
def test_a_text_that_no_engine_takes_is_refused_where_it_is(
    model: Model, target: Target, texts: dict[str, str], pointer: str
) -> None:
    served = replace(served_by(target, model.package.manifest), sizes=())
    assert served.longest_text == 2 * 32
    served.check(plan(model, 64, 64, prompt="red heart, " * 10))
    long = plan(model, 64, 64, **texts)
    with pytest.raises(RequestError) as refusal:
        served.check(long)
    [fault] = refusal.value.faults
    assert fault.pointer == pointer
    tokens = 32 * len(long.prompts[0].of("tokenizer"))
    assert fault.detail.startswith(f"it fills {tokens} tokens, and the engines take 64; shorten it")


def test_without_a_target_every_size_and_lora_is_taken(model: Model) -> None:
    everything = served_by(None, model.package.manifest)
    everything.check(plan(model, 160, 64, **lora(model, 1)))
    everything.check(plan(model, 64, 64, prompt=WORDS))


def test_a_target_says_the_command_that_it_is_of(model: Model, target: Target) -> None:
    served = served_by(target, model.package.manifest)
    with pytest.raises(RequestError, match=f"--sizes .*{target.record.command}"):
        served.check(plan(model, 64, 64))


@pytest.mark.parametrize(
    "served", [FIXED, Served(BatchLimits(2, 4), ((64, 64),), longest_text=308)]
)
def test_another_process_is_told_all_of_it(served: Served) -> None:
    assert Served.from_json(json.loads(json.dumps(served.to_json()))) == served


SIDES = st.integers(8, 20)
RANGES = st.tuples(SIDES, SIDES, SIDES).map(lambda three: Range(*sorted(three)))
PROFILES = st.lists(st.tuples(RANGES, RANGES, st.sampled_from((1, 2))), min_size=1, max_size=4)
LATENTS = {"latents": InputRecord("float32", ("batch", 4, "height", "width"))}


@given(PROFILES, SIDES, SIDES)
def test_the_rule_is_that_by_which_a_profile_is_found(
    model: Model,
    target: Target,
    ranges: Sequence[tuple[Range, Range, int]],
    width: int,
    height: int,
) -> None:
    profiles = tuple(
        {
            "width": wide,
            "height": high,
            "batch": Range(1, 1, 1),
            "evaluations": Range(count, count, count),
            "tokens": Range(32, 32, 64),
        }
        for wide, high, count in ranges
    )
    scale = model.package.manifest.latents.scale_factor
    served = served_by(with_profiles(target, profiles), model.package.manifest)
    any_plan = plan(model, 64, 64)
    request = replace(any_plan.request, width=width * scale, height=height * scale)
    asked = replace(any_plan, request=request)
    try:
        Profiles("denoiser", LATENTS, profiles, scale).index({"latents": (1, 4, height, width)}, "")
    except BackendError:
        with pytest.raises(RequestError):
            served.check(asked)
    else:
        served.check(asked)


def with_profiles(target: Target, profiles: tuple[Profile, ...]) -> Target:
    """The target with other profiles of its denoiser."""
    identity = target.record.identity
    denoiser = replace(identity.engines["denoiser"], profiles=profiles)
    engines = {**identity.engines, "denoiser": denoiser}
    record = replace(target.record, identity=replace(identity, engines=engines))
    return replace(target, record=record)


# Batches --------------------------------------------------------------------------------------


def samples(folder: Path, milliseconds: Sequence[float]) -> int:
    """Samples of a call of a target of batches up to 4, by these times of guided steps."""
    manifest, _ = read_manifest(ENGINES / "demo")
    (folder / "manifest.json").write_bytes((ENGINES / "demo" / "manifest.json").read_bytes())
    target = add_target(folder, Made(samples=4))
    place = {"height": 16, "width": 16, "tokens": 32}
    times = tuple(
        StepTime({"batch": batch, "evaluations": each * batch, **place}, took / (3 - each))
        for batch, took in enumerate(milliseconds, start=1)
        # Those without guidance, which are faster, say nothing of those with it.
        for each in (2, 1)
    )
    engine = replace(target.record.engines["denoiser"], step_times=times)
    engines = {**target.record.engines, "denoiser": engine}
    measured = replace(target, record=replace(target.record, engines=engines))
    return served_by(measured, manifest).limits.samples


@pytest.mark.parametrize(
    ("milliseconds", "served"),
    [
        ([], 4),  # nothing was measured: as many as it takes
        ([10], 4),  # nor of batches
        ([10, 11, 12, 13], 4),
        ([10, 20, 30, 40], 1),  # a batch saves nothing
        ([10, 14, 30, 40], 2),
        ([10, 25, 30, 36], 4),
    ],
)
def test_batches_are_as_large_as_they_pay(
    tmp_path: Path, milliseconds: list[float], served: int
) -> None:
    assert samples(tmp_path, milliseconds) == served
