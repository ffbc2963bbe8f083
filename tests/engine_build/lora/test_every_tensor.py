"""Every tensor of a layer counts: altered or taken away, it changes the weight, or the file is
refused by name; and what it gives is what the published formulas give.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from engine_build.lora.convert import convert
from engine_build.lora.formats import read_lora
from runtime.draw.lora.deltas import laid
from runtime.errors import SourceError
from runtime.package.manifest import Manifest, Parameter, RoleRecord
from tests.inputs import Inputs
from tests.tiny.lora_formulas import (
    FORMS,
    Array,
    Recipe,
    Tensors,
    effective,
    possible,
    written,
)
from tests.tiny.manifests import MANIFEST

SHAPES = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2": (8, 12),
    "down_blocks.0.resnets.0.conv1": (8, 8, 3, 3),
    "down_blocks.0.resnets.0.conv2": (12, 4, 3, 3),
    "down_blocks.0.resnets.0.conv_shortcut": (8, 4, 1, 1),
    "down_blocks.0.resnets.0.norm1": (8,),
}

# An example has a dozen files: one in each of its alterations.
MOST = settings.default.max_examples
EXAMPLES = MOST * 2 if MOST <= 100 else MOST // 12


def _manifest() -> Manifest:
    parameters = {}
    for path, shape in SHAPES.items():
        parameters[f"{path}.weight"] = Parameter(f"{path}.weight", shape, "F32")
        parameters[f"{path}.bias"] = Parameter(f"{path}.bias", shape[:1], "F32")
    role = replace(MANIFEST.roles["denoiser"], parameters=parameters)
    empty = replace(role, parameters={})
    roles: dict[str, RoleRecord] = {
        "denoiser": role,
        "text_encoder": empty,
        "text_encoder_2": empty,
    }
    return replace(MANIFEST, roles=roles)


PAPER = _manifest()


@st.composite
def recipes(draw: st.DrawFn) -> tuple[str, Recipe]:
    """A layer's path, and a recipe of any form that a trainer writes for its weight."""
    path = draw(st.sampled_from(sorted(SHAPES)))
    recipe = st.builds(
        Recipe,
        form=st.sampled_from(FORMS),
        shape=st.just(SHAPES[path]),
        biased=st.booleans(),
        dora=st.sampled_from([None, "dora_scale", "lora_magnitude_vector"]),
        over_outputs=st.booleans(),
        alpha=st.sampled_from([None, 1.0, 5.0]),
        peft=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )
    return path, draw(recipe.filter(possible).filter(_distinct))


def _distinct(recipe: Recipe) -> bool:
    """PEFT's magnitudes are of outputs: a row of a square kernel would be read as such."""
    square = len(recipe.shape) == 4 and recipe.shape[0] == recipe.shape[1]
    return recipe.over_outputs or recipe.dora != "lora_magnitude_vector" or not square


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def read(folder: Path, path: str, tensors: Tensors, weight: float) -> tuple[Array, Array]:
    """The layer's weight and bias with the file's change. Raises SourceError."""
    file = folder / "file.safetensors"
    file.unlink(missing_ok=True)
    # Of a magnitude's spelling with dots and a factor's without: one layer.
    flat, dotted = f"lora_unet_{path.replace('.', '_')}", f"lora_unet_{path}"
    save_file(
        {
            (dotted if "_vector" in ending else flat) + ending: np.ascontiguousarray(each)
            for ending, each in tensors.items()
        },
        file,
    )
    conversion = convert(read_lora(file), PAPER)
    assert conversion.not_covered == ()
    found = dict(zip(("weight", "bias"), own(path), strict=True))
    for target in conversion.targets:
        name = target.parameter.removeprefix(f"{path}.")
        factors = {
            each: np.asarray(conversion.factors[target.tensor_name(each)], np.float32)
            for each in target.factors
        }
        base = found[name].astype(np.float32)
        found[name] = laid(target, factors, base, base, weight).astype(np.float64)
    return found["weight"], found["bias"]


def own(path: str) -> tuple[Array, Array]:
    """The package's own weight and bias of a layer."""
    chance = np.random.default_rng(len(path))
    shape = SHAPES[path]
    return chance.normal(0, 1, shape), chance.normal(0, 1, shape[0])


def alterations(recipe: Recipe, tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    """Each tensor altered, then each taken away, then one more that has no meaning."""
    chance = np.random.default_rng(recipe.seed)
    for name, each in tensors.items():
        if name == ".alpha" and not recipe.scaled:
            continue  # LyCORIS writes an alpha for whole factors, and does not use it.
        other = each + np.float32(0.5) + chance.random(each.shape, np.float32)
        yield f"altered {name}", {**tensors, name: np.asarray(other, np.float32)}
        yield f"without {name}", {key: value for key, value in tensors.items() if key != name}
    for extra in (".scalar", ".lora_down.bias"):
        yield f"more {extra}", {**tensors, extra: np.ones(2, np.float32)}


@pytest.mark.fuzz
@settings(max_examples=EXAMPLES)
@given(drawn=recipes(), weight=st.sampled_from([1.0, 0.6, -0.8]))
def test_every_tensor_counts(
    folder: Path, inputs: Inputs, drawn: tuple[str, Recipe], weight: float
) -> None:
    path, recipe = drawn
    inputs.count()
    tensors = written(recipe)
    expected = effective(recipe, tensors, own(path), weight)
    found = read(folder, path, tensors, weight)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)
    for name, altered in alterations(recipe, tensors):
        event(name)
        inputs.count()
        try:
            other = read(folder, path, altered, weight)
        except SourceError as error:
            _assert_refused_by_name(str(error), path, altered)
            continue
        assert not name.startswith("more"), f"{name} is left out unseen"
        largest = max(np.abs(a - b).max() for a, b in zip(found, other, strict=True))
        assert largest > 1e-4, f"{name} of {recipe} changes nothing"


def _assert_refused_by_name(error: str, path: str, tensors: Tensors) -> None:
    assert "\n" not in error
    if tensors:
        flat = path.replace(".", "_")
        assert flat in error.replace(".", "_"), error
