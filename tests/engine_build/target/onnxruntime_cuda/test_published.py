"""Graphs of published structure, of weights that take no room: nothing in them defies a capture,
and every fusion fits.

CLIP and Qwen3 are as deep as published, since what picks one of their states grows with depth.
Denoisers and T5, of which the last state is read, are as wide as published and have two blocks of
each kind: all of them take ten minutes and more, by `python -m benchmarks.published_graphs`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache

import onnx_ir as ir
import pytest

from benchmarks.published_graphs import compiled_graph, published_roles
from benchmarks.real_size import write_hollow
from engine_build.package.export.role import RoleExport
from engine_build.quiet import quiet
from engine_build.target.onnxruntime_cuda import counts
from engine_build.target.onnxruntime_cuda.capturable import uncapturable
from engine_build.target.onnxruntime_cuda.patterns import is_constant
from engine_build.target.onnxruntime_cuda.prelude import split_prelude
from runtime.package.step_graph import conditioning_of

Roles = Callable[[str], Mapping[str, RoleExport]]

# By attentions. What is left out is Flux Dev's too: schnell's first text encoder, and the VAEs.
ATTENTIONS = {
    ("sdxl", "text_encoder"): 12,
    ("sdxl", "text_encoder_2"): 32,
    ("sdxl", "denoiser"): 22,
    ("sdxl", "vae_decoder"): 1,
    ("sdxl", "preview_decoder"): 0,
    ("flux-dev", "text_encoder"): 12,
    ("flux-dev", "text_encoder_2"): 2,
    ("flux-dev", "denoiser"): 4,
    ("flux-dev", "vae_decoder"): 1,
    # It reads so many tokens that its table of distances is too large to be a constant.
    ("flux-schnell", "text_encoder_2"): 2,
    ("flux-schnell", "denoiser"): 4,
    ("chroma", "text_encoder"): 2,
    ("chroma", "denoiser"): 4,
    ("zimage", "text_encoder"): 35,
    ("zimage", "denoiser"): 6,
}

# The GELU of CLIP's smaller encoder is the sigmoid's, which takes no bias. Its first norm reads a
# sum of fp32 tables, and the last one of SDXL's second encoder is an answer in fp32. The attention
# of a VAE norms rows, for which the operator of group norms takes no bias either. The other biases
# are those of the products that embed text and picture, and Chroma's modulations.
CLIP = {"bias of a product": 12, "layer norm in fp32": 1}
VAE = {"bias of a product": 1, "group norm": 1}
UNFUSED = {
    ("sdxl", "text_encoder"): CLIP,
    ("sdxl", "text_encoder_2"): {"layer norm in fp32": 2},
    ("sdxl", "vae_decoder"): VAE,
    ("flux-dev", "text_encoder"): CLIP,
    ("flux-dev", "denoiser"): {"bias of a product": 2},
    ("flux-dev", "vae_decoder"): VAE,
    ("flux-schnell", "denoiser"): {"bias of a product": 2},
    ("chroma", "denoiser"): {"bias of a product": 5},
    ("zimage", "denoiser"): {"bias of a product": 2},
}

# Of a step, where it begins and ends alone. To 16 bits: the text, the latents or their patches, the
# sinusoids of the time, and of the guidance of Flux Dev; the pooled text of SDXL, with the sizes,
# and of Flux; Chroma's mask. To fp32: the answer of the last product.
CASTS = {
    "sdxl": (4, 1),
    "flux-dev": (5, 1),
    "flux-schnell": (4, 1),
    "chroma": (4, 1),
    "zimage": (3, 1),
}
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Roles:
    """The roles of a model, by its name; each model is written once."""

    @cache
    def found(name: str) -> Mapping[str, RoleExport]:
        folder = tmp_path_factory.mktemp("published") / name
        return published_roles(write_hollow(name, folder, shallow=True))

    return found


@pytest.mark.parametrize(("name", "role"), ATTENTIONS, ids=[" ".join(each) for each in ATTENTIONS])
def test_every_fusion_fits_and_nothing_defies_a_capture(name: str, role: str, roles: Roles) -> None:
    with quiet():
        model = compiled_graph(roles(name)[role])
    assert uncapturable(model) == ()
    operators = Counter(node.op_type for node in model.graph)
    assert operators["MultiHeadAttention"] == ATTENTIONS[name, role]
    assert operators["Softmax"] == 0
    assert counts.unfused(model) == UNFUSED.get((name, role), {})
    if role == "denoiser":
        assert casts_of(model) == CASTS[name]
        inputs = {str(value.name) for value in model.graph.inputs}
        prelude = split_prelude(model, conditioning_of(inputs))
        assert prelude is not None
        assert uncapturable(model) == ()


def casts_of(model: ir.Model) -> tuple[int, int]:
    """The number of Casts to 16 bits, and of those to fp32, of what is no constant."""
    found = Counter(
        node.outputs[0].dtype
        for node in model.graph
        if node.op_type == "Cast"
        and node.inputs[0] is not None
        and node.inputs[0].dtype in FLOATS
        and not is_constant(node.inputs[0])
    )
    widened = found.pop(ir.DataType.FLOAT, 0)
    return sum(found.values()), widened
