"""LoRA sets come and go on one open model, and leave nothing behind."""

import random
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from engine_build.lora.packs import remove_pack
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from runtime.draw.lora.deltas import laid
from runtime.draw.lora.weights import EffectiveWeights
from runtime.errors import PackageError, RequestError
from runtime.package.manifest import read_package
from runtime.package.pack import FACTORS_NAME, AdaptedParameter, Decomposition, LoraPack
from runtime.package.tensors import Tensor, map_tensors
from runtime.plan.model import open_model
from runtime.plan.plan import Plan

LORAS = [f"lora{number}" for number in range(6)]


@pytest.fixture(scope="module")
def generator(lora_engines: Path) -> Generator:
    model = open_model(lora_engines, "demo")
    return Generator(model, OnnxRuntimeCpu(model.package))


def plan(generator: Generator, *loras: tuple[str, float], **fields: Any) -> Plan:
    body = {"prompt": "a red heart", "seed": 3, "steps": 1, "width": 64, "height": 64, **fields}
    body["loras"] = [{"id": identity, "weight": weight} for identity, weight in loras]
    return generator.model.plan(generator.model.read(body))


def draw(generator: Generator, drawn: Plan) -> np.ndarray:
    for event in generator.steps(drawn):
        if event.finished:
            return generator.latents(event.sample)
    raise AssertionError("unreachable: a plan has at least one step")


def weights(effective: EffectiveWeights, drawn: Plan) -> dict[str, np.ndarray]:
    return {
        f"{role}/{name}": tensor.values
        for role in ("denoiser", "text_encoder", "text_encoder_2")
        for name, tensor in effective.of(drawn.loras, role).items()
    }


def test_effective_weights_are_the_bases_plus_weighted_changes(generator: Generator) -> None:
    package = generator.model.package
    drawn = plan(generator, ("lora0", 0.7), ("lora1", -1.5))
    found = generator.effective_weights.of(drawn.loras, "denoiser")
    base = map_tensors(package.file("denoiser.safetensors"))
    expected = {name: base[name].fp32().astype(np.float64) for name in found}
    for pack, weight in drawn.loras:
        factors = pack.factors()
        for target in pack.record.targets:
            up, down = (factors[target.tensor_name(f)].fp32() for f in ("up", "down"))
            product = up.reshape(len(up), -1).astype(np.float64) @ down.reshape(len(down), -1)
            scaled = weight * target.scale * product.reshape(target.shape)
            expected[target.parameter] += scaled
    assert len(expected) == 5
    for name, tensor in found.items():
        assert tensor.values.dtype == base[name].values.dtype
        np.testing.assert_allclose(tensor.fp32(), expected[name], rtol=1e-3, atol=1e-5)


def test_fifty_switches_leave_no_residue(generator: Generator) -> None:
    """Weights and pictures of each set are the same to the bit, whatever came before it."""
    chance = random.Random(0)
    sets = [(), (("lora0", 1.0),), (("lora4", 0.8),), (("lora5", -1.0), ("lora3", 0.5))]
    sets += [tuple((name, chance.uniform(-2, 2)) for name in chance.sample(LORAS, 3))]
    sets += [tuple((name, 0.3) for name in LORAS)]
    plans = [plan(generator, *each) for each in sets]
    pictures: dict[int, np.ndarray] = {}
    seen: dict[int, dict[str, np.ndarray]] = {}
    # Nothing is kept beyond the newest set, so that every switch computes anew.
    effective = EffectiveWeights(generator.model.package, budget_bytes=0)
    for _ in range(50):
        index = chance.randrange(len(plans))
        picture, now = draw(generator, plans[index]), weights(effective, plans[index])
        np.testing.assert_array_equal(picture, pictures.setdefault(index, picture))
        first = seen.setdefault(index, now)
        assert first.keys() == now.keys()
        for name, values in now.items():
            np.testing.assert_array_equal(values, first[name])
    assert len(pictures) == len(plans), "a set was never drawn"
    for index, picture in pictures.items():
        assert all((picture != other).any() for i, other in pictures.items() if i != index)


def test_no_lora_is_the_model_that_was_never_given_one(
    generator: Generator, lora_engines: Path
) -> None:
    model = open_model(lora_engines, "demo")
    fresh = Generator(model, OnnxRuntimeCpu(model.package))
    expected = draw(fresh, plan(fresh))
    draw(generator, plan(generator, ("lora2", 1.0), ("lora4", 1.0)))
    np.testing.assert_array_equal(draw(generator, plan(generator)), expected)


def test_weight_0_is_as_if_it_were_not_there(generator: Generator) -> None:
    assert plan(generator, ("lora0", 0.0)).loras == ()
    mixed = plan(generator, ("lora1", 1.0), ("lora0", 0.0))
    assert mixed.loras == plan(generator, ("lora1", 1.0)).loras
    np.testing.assert_array_equal(
        draw(generator, plan(generator, ("lora0", 0.0))), draw(generator, plan(generator))
    )


def test_samples_of_different_sets_run_side_by_side(generator: Generator) -> None:
    wishes = [(), (("lora0", 1.0),), (("lora3", 1.0),), (("lora0", 1.0),), (("lora0", 0.5),)]
    plans = [
        plan(generator, *each, seed=seed, steps=3, cfg_scale=1.0 + seed % 2)
        for seed, each in enumerate(wishes)
    ]
    alone = [draw(generator, each) for each in plans]
    waiting = [generator.start(each) for each in plans]
    together: dict[int, np.ndarray] = {}
    for events in generator.turns(lambda _: [waiting.pop(0) for _ in list(waiting)]):
        for event in events:
            if event.finished:
                together[event.sample.plan.request.seed] = generator.latents(event.sample)
    for seed, latents in enumerate(alone):
        np.testing.assert_array_equal(together[seed], latents, err_msg=str(wishes[seed]))


def test_recent_sets_are_kept_within_the_budget(generator: Generator) -> None:
    plans = [plan(generator, (name, 1.0)) for name in LORAS[:3]]
    probe = EffectiveWeights(generator.model.package, budget_bytes=0)
    sizes = []
    for each in plans:
        probe.of(each.loras, "denoiser")
        sizes.append(probe.kept_bytes)
    effective = EffectiveWeights(generator.model.package, budget_bytes=sum(sizes[:2]))
    first = effective.of(plans[0].loras, "denoiser")
    effective.of(plans[1].loras, "denoiser")
    assert effective.of(plans[0].loras, "denoiser") is first
    effective.of(plans[2].loras, "denoiser")
    assert effective.kept_bytes <= sum(sizes[:2])
    assert effective.of(plans[0].loras, "denoiser") is not first or sizes[2] <= sizes[1]


def test_a_lora_that_went_away_is_named(lora_engines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    shutil.copytree(lora_engines, folder)
    model = open_model(folder, "demo")
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    waits, changes = plan(generator, ("lora0", 1.0)), plan(generator, ("lora1", 1.0))
    remove_pack(read_package(folder, "demo"), "lora0")
    with pytest.raises(PackageError, match=r"lora0/factors\.safetensors: gone"):
        generator.start(waits)
    with pytest.raises(RequestError, match=r"loras\.0\.id: .*no LoRA that this model has: lora1"):
        model.read(waits.request.to_json())
    with pytest.raises(RequestError, match=r"loras\.0\.id: 'lora0' is no LoRA of this model now"):
        model.plan(waits.request)
    (folder / "demo" / "loras" / "lora1" / FACTORS_NAME).write_bytes(b"damaged")
    with pytest.raises(PackageError, match="expected"):
        generator.start(changes)
    assert [offer.id for offer in model.loras()] == LORAS[1:]


def dora(rule: Literal["lycoris", "peft"], axis: Literal["outputs", "inputs"]) -> AdaptedParameter:
    factors = ("down", "magnitude", "up")
    return AdaptedParameter(
        "denoiser", "a.weight", "lora", (4, 4), 0.5, factors, Decomposition(axis, rule)
    )


@pytest.fixture
def square() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A weight, and the factors of a DoRA on a square, so that no shape tells the axis."""
    chance = np.random.default_rng(0)
    shapes = {"up": (4, 2), "down": (2, 4), "magnitude": (4,)}
    factors = {name: chance.standard_normal(shape) for name, shape in shapes.items()}
    base = chance.standard_normal((4, 4)).astype(np.float32)
    return base, {name: each.astype(np.float32) for name, each in factors.items()}


@pytest.mark.parametrize("axis", ["outputs", "inputs"])
def test_dora_at_a_weight_as_peft_scales_it(
    axis: Literal["outputs", "inputs"], square: tuple[np.ndarray, dict[str, np.ndarray]]
) -> None:
    """Liu et al., with the scale that PEFT's `set_adapters` gives: not linear in the weight."""
    base, factors = square
    over = 1 if axis == "outputs" else 0
    together = base + 0.3 * 0.5 * factors["up"] @ factors["down"]
    norms = np.linalg.norm(together, axis=over, keepdims=True)
    expected = np.expand_dims(factors["magnitude"], over) * together / norms
    found = laid(dora("peft", axis), factors, base, base, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", ["outputs", "inputs"])
@pytest.mark.parametrize("weight", [0.3, 1.0, -1.2])
def test_dora_at_a_weight_as_lycoris_scales_it(
    weight: float,
    axis: Literal["outputs", "inputs"],
    square: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    """LyCORIS' `apply_weight_decompose`: the weight scales the growth, the norms are of all of it.

    The changes of earlier LoRAs stay beside it.
    """
    base, factors = square
    over = 1 if axis == "outputs" else 0
    together = base + 0.5 * factors["up"] @ factors["down"]
    growth = np.expand_dims(factors["magnitude"], over) / np.linalg.norm(
        together, axis=over, keepdims=True
    )
    earlier = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    expected = earlier + together * (1 + weight * (growth - 1))
    found = laid(dora("lycoris", axis), factors, base, base + earlier, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_row_of_zeros_stays_one(square: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    base, factors = square
    factors["magnitude"][:] = 9.0
    base[1], factors["up"][1] = 0.0, 0.0
    for rule in ("lycoris", "peft"):
        found = laid(dora(rule, "outputs"), factors, base, base, 0.7)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[1], np.zeros(4))


def test_each_pack_of_a_set_is_opened_once_also_where_they_cannot_all_stay_open(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = plan(generator, *((name, 0.5) for name in LORAS))
    opened: list[str] = []
    factors = LoraPack.factors

    def noted(self: LoraPack) -> dict[str, Tensor]:
        opened.append(self.id)
        return factors(self)

    monkeypatch.setattr(LoraPack, "factors", noted)
    monkeypatch.setattr("runtime.draw.lora.weights._OPENED", 1)
    found = EffectiveWeights(generator.model.package, 0).of(drawn.loras, "denoiser")
    assert found
    assert len(opened) == len(set(opened)) > 1
