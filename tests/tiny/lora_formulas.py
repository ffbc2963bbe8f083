"""Random layers of LoRA files in every form, and the weights that the published formulas give.

The formulas are written in fp64 from the papers and from LyCORIS' and PEFT's own merging, apart
from the code that they test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = dict[str, NDArray[np.float32]]
Spelled = Literal["dora_scale", "lora_magnitude_vector"]

FORMS = (
    "lora",
    "lora with a core",
    "loha",
    "loha with cores",
    *(f"lokr {first} {second}" for first in ("w", "ab") for second in ("w", "ab", "core")),
    "diff",
    "diff_b alone",
)


@dataclass(frozen=True)
class Recipe:
    """A layer that is to be written."""

    form: str
    shape: tuple[int, ...]
    """The weight's."""
    biased: bool
    """True for a difference of the bias beside the change."""
    dora: Spelled | None = None
    over_outputs: bool = True
    alpha: float | None = None
    peft: bool = False
    """True for PEFT's names of the factors, and its bias of `lora_B`."""
    seed: int = 0

    @property
    def core(self) -> bool:
        return "core" in self.form

    @property
    def scaled(self) -> bool:
        """True where an alpha acts: whole Kronecker factors and differences have no rank."""
        return not self.form.startswith("diff") and self.form != "lokr w w"


def possible(recipe: Recipe) -> bool:
    """False for what no trainer writes: cores without kernels, magnitudes of a difference."""
    kernel = len(recipe.shape) == 4
    if len(recipe.shape) == 1 and not recipe.form.startswith("diff"):
        return False
    if recipe.core and not kernel:
        return False
    if recipe.form.startswith("diff"):
        return recipe.dora is None and recipe.alpha is None
    return True


def written(recipe: Recipe) -> Tensors:
    """The layer's tensors, named by their endings."""
    chance = np.random.default_rng(recipe.seed)
    tensors = {
        name: chance.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in _shapes(recipe).items()
    }
    if recipe.alpha is not None:
        tensors[".alpha"] = np.float32(recipe.alpha).reshape(())
    if recipe.dora is not None:
        count = recipe.shape[0 if recipe.over_outputs else 1]
        magnitude = 1 + chance.random(count, np.float32)
        tensors[f".{recipe.dora}"] = magnitude.reshape(_magnitudes(recipe))
    if recipe.biased:
        bias = ".lora_B.bias" if recipe.peft and recipe.form == "lora" else ".diff_b"
        tensors[bias] = chance.normal(0, 0.5, recipe.shape[0]).astype(np.float32)
    return tensors


def effective(
    recipe: Recipe, tensors: Tensors, weights: tuple[Array, Array], weight: float
) -> tuple[Array, Array]:
    """The layer's weight and bias, from the package's own in `weights`, at a request's weight."""
    base, bias = weights
    of = {name: each.astype(np.float64) for name, each in tensors.items()}
    scale = recipe.alpha / _RANK if recipe.alpha is not None and recipe.scaled else 1.0
    if ".diff_b" in of:
        bias = bias + weight * of[".diff_b"]
    if ".lora_B.bias" in of:
        bias = bias + weight * scale * of[".lora_B.bias"]
    if recipe.form == "diff_b alone":
        return base, bias
    change = scale * _change(recipe, of).reshape(recipe.shape)
    if recipe.dora is None:
        return base + weight * change, bias
    magnitude = of[f".{recipe.dora}"].reshape(-1)
    if recipe.dora == "dora_scale":
        growth = magnitude / _norms(base + change, recipe.over_outputs)
        return _grown(base + change, 1 + weight * (growth - 1), recipe.over_outputs), bias
    moved = base + weight * change
    growth = magnitude / _norms(moved, recipe.over_outputs)
    return _grown(moved, growth, recipe.over_outputs), bias


_RANK = 2


def _shapes(recipe: Recipe) -> Mapping[str, tuple[int, ...]]:
    out, *inputs = recipe.shape
    form, *variant = recipe.form.split()
    if form == "lora":
        return _lora_shapes(recipe)
    if form == "lokr":
        return _lokr_shapes(variant[0], variant[1], recipe.shape)
    if form == "diff":
        return {".diff": recipe.shape}
    if form == "diff_b":
        return {".diff_b": (out,)}
    shapes: dict[str, tuple[int, ...]] = {}
    for half in "12":
        a, b = f".hada_w{half}_a", f".hada_w{half}_b"
        if recipe.core:
            core = (_RANK, _RANK, *inputs[1:])
            shapes |= {a: (_RANK, out), b: (_RANK, inputs[0]), f".hada_t{half}": core}
        else:
            shapes |= {a: (out, _RANK), b: (_RANK, int(np.prod(inputs)))}
    return shapes


def _lora_shapes(recipe: Recipe) -> Mapping[str, tuple[int, ...]]:
    out, *inputs = recipe.shape
    ones = (1,) * (len(recipe.shape) - 2)
    if not recipe.core:
        down, up = (".lora_A.weight", ".lora_B.weight") if recipe.peft else _KOHYA
        return {down: (_RANK, *inputs), up: (out, _RANK, *ones)}
    return {
        ".lora_down.weight": (_RANK, inputs[0], *ones),
        ".lora_mid.weight": (_RANK, _RANK, *inputs[1:]),
        ".lora_up.weight": (out, _RANK, *ones),
    }


_KOHYA = (".lora_down.weight", ".lora_up.weight")


def _lokr_shapes(first: str, second: str, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    small, out, inputs, kernel = (4, 2), shape[0] // 4, shape[1] // 2, shape[2:]
    shapes: dict[str, tuple[int, ...]] = (
        {".lokr_w1": small}
        if first == "w"
        else {".lokr_w1_a": (4, _RANK), ".lokr_w1_b": (_RANK, 2)}
    )
    if second == "w":
        return shapes | {".lokr_w2": (out, inputs, *kernel)}
    if second == "ab":
        width = inputs * int(np.prod(kernel))
        return shapes | {".lokr_w2_a": (out, _RANK), ".lokr_w2_b": (_RANK, width)}
    return shapes | {
        ".lokr_w2_a": (_RANK, out),
        ".lokr_w2_b": (_RANK, inputs),
        ".lokr_t2": (_RANK, _RANK, *kernel),
    }


def _magnitudes(recipe: Recipe) -> tuple[int, ...]:
    """The shape in which a trainer writes magnitudes."""
    out, inputs, *kernel = recipe.shape
    ones = (1,) * len(kernel)
    if recipe.dora == "dora_scale" or not recipe.over_outputs:
        return (out, 1, *ones) if recipe.over_outputs else (1, inputs, *ones)
    return (1, out, *ones) if kernel else (out,)


def _change(recipe: Recipe, of: Mapping[str, Array]) -> Array:
    match recipe.form.split():
        case ["lora"]:
            down, up = (".lora_A.weight", ".lora_B.weight") if recipe.peft else _KOHYA
            flat = of[down].reshape(_RANK, -1)
            return np.einsum("or,ri->oi", of[up].reshape(-1, _RANK), flat)
        case ["lora", *_]:
            up, down = of[".lora_up.weight"][..., 0, 0], of[".lora_down.weight"][..., 0, 0]
            return np.einsum("or,rskl,si->oikl", up, of[".lora_mid.weight"], down)
        case ["loha", *cores]:
            return _half(of, "1", cores) * _half(of, "2", cores)
        case ["lokr", first, second]:
            return _kronecker(of, first, second, recipe.shape)
        case _:
            return of[".diff"]


def _half(of: Mapping[str, Array], half: str, cores: list[str]) -> Array:
    a, b = of[f".hada_w{half}_a"], of[f".hada_w{half}_b"]
    if not cores:
        return np.einsum("or,ri->oi", a, b)
    return np.einsum("rskl,ro,si->oikl", of[f".hada_t{half}"], a, b)


def _kronecker(of: Mapping[str, Array], first: str, second: str, shape: tuple[int, ...]) -> Array:
    w1 = of[".lokr_w1"] if first == "w" else of[".lokr_w1_a"] @ of[".lokr_w1_b"]
    if second == "w":
        w2 = of[".lokr_w2"]
    elif second == "ab":
        w2 = of[".lokr_w2_a"] @ of[".lokr_w2_b"]
    else:
        w2 = np.einsum("rskl,ro,si->oikl", of[".lokr_t2"], of[".lokr_w2_a"], of[".lokr_w2_b"])
    w2 = w2.reshape(shape[0] // 4, shape[1] // 2, -1)
    # The element of the row a * rows + c and the column b * columns + d is w1[a, b] * w2[c, d].
    return np.einsum("ab,cdk->acbdk", w1, w2)


def _norms(matrix: Array, over_outputs: bool) -> Array:
    places = matrix if over_outputs else matrix.swapaxes(0, 1)
    return np.array([np.linalg.norm(place) for place in places])


def _grown(matrix: Array, growth: Array, over_outputs: bool) -> Array:
    places = matrix if over_outputs else matrix.swapaxes(0, 1)
    grown = np.stack([place * by for place, by in zip(places, growth, strict=True)])
    return grown if over_outputs else grown.swapaxes(0, 1)
