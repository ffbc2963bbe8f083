"""Flux and Chroma in Black Forest Labs' naming: every tensor where diffusers' converters find it.

The converters know no width but 3072, so the tensors have all of the real rows and two columns.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import ChromaTransformer2DModel, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_chroma_transformer_checkpoint_to_diffusers,
    convert_flux_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import save_file

from engine_build.checkpoint.single_file.chroma import CHROMA
from engine_build.checkpoint.single_file.family import (
    DENOISER_PREFIXES,
    SingleFileFamily,
    SingleFileHeader,
)
from engine_build.checkpoint.single_file.flux import FLUX
from engine_build.checkpoint.single_file.open import networks_in_file, open_source
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.weights import read_header
from engine_build.package.state import read_tensor
from runtime.errors import SourceError

WIDTH, LAYERS = 3072, 2
ATTENTION = {"qkv": 3 * WIDTH, "proj": WIDTH}
MLP = {"0": 4 * WIDTH, "2": WIDTH}
EMBEDDER = {"in_layer": WIDTH, "out_layer": WIDTH}

State = dict[str, torch.Tensor]


def modules(*, modulated: bool, embedders: tuple[str, ...]) -> dict[str, int]:
    """The linear layers of a file with their rows."""
    rows = {"img_in": WIDTH, "txt_in": WIDTH, "final_layer.linear": 64}
    for name in embedders:
        rows |= {f"{name}.{layer}": count for layer, count in EMBEDDER.items()}
    for block in range(LAYERS):
        for side in ("img", "txt"):
            where = f"double_blocks.{block}.{side}"
            rows |= {f"{where}_attn.{layer}": count for layer, count in ATTENTION.items()}
            rows |= {f"{where}_mlp.{layer}": count for layer, count in MLP.items()}
            if modulated:
                rows[f"{where}_mod.lin"] = 6 * WIDTH
        rows |= {f"single_blocks.{block}.linear1": 7 * WIDTH}
        rows |= {f"single_blocks.{block}.linear2": WIDTH}
        if modulated:
            rows[f"single_blocks.{block}.modulation.lin"] = 3 * WIDTH
    return rows


def tensors(rows: dict[str, int]) -> State:
    """Random numbers, in bf16 as these checkpoints are."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).bfloat16()

    state = {f"{name}.weight": draw(count, 2) for name, count in rows.items()}
    state |= {f"{name}.bias": draw(count) for name, count in rows.items()}
    norms = [
        f"{where}norm.{kind}_norm.scale"
        for block in range(LAYERS)
        for where in (
            f"double_blocks.{block}.img_attn.",
            f"double_blocks.{block}.txt_attn.",
            f"single_blocks.{block}.",
        )
        for kind in ("query", "key")
    ]
    return state | {name: draw(128) for name in norms}


def flux(*, guided: bool) -> State:
    embedders = ("time_in", "vector_in", *(["guidance_in"] if guided else []))
    rows = modules(modulated=True, embedders=embedders)
    return tensors({**rows, "final_layer.adaLN_modulation.1": 2 * WIDTH})


def chroma() -> State:
    guidance = "distilled_guidance_layer"
    rows = modules(modulated=False, embedders=())
    rows |= {f"{guidance}.in_proj": 32, f"{guidance}.out_proj": 32}
    for layer in range(LAYERS):
        rows |= {f"{guidance}.layers.{layer}.in_layer": 32}
        rows |= {f"{guidance}.layers.{layer}.out_layer": 32}
    norms = {f"{guidance}.norms.{layer}.scale": torch.randn(32) for layer in range(LAYERS)}
    return {**tensors(rows), **norms}


def latents_in(state: State) -> State:
    """The same with as many inputs as latents have, by which files that read pictures are told."""
    return {**state, "img_in.weight": torch.zeros(WIDTH, 64).bfloat16()}


def found(
    family: SingleFileFamily, state: State, path: Path, config: dict[str, Any], prefix: str
) -> State:
    save_file({prefix + name: value for name, value in state.items()}, path)
    header = SingleFileHeader(path, read_header(path), {})
    named = family.networks["transformer"].find(header, config)
    return {name: read_tensor(tensor) for name, tensor in named.items()}


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor.float()), name


def parameters_of(network_class: Any, **config: Any) -> set[str]:
    with init_empty_weights():
        network = network_class(num_layers=LAYERS, num_single_layers=LAYERS, **config)
    return {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("guided", [False, True], ids=["schnell", "dev"])
def test_flux_is_where_diffusers_finds_it(tmp_path: Path, prefix: str, guided: bool) -> None:
    state = flux(guided=guided)
    ours = found(FLUX, state, tmp_path / "f.safetensors", {"guidance_embeds": guided}, prefix)
    converted = convert_flux_transformer_checkpoint_to_diffusers(dict(state))
    assert converted.keys() == parameters_of(FluxTransformer2DModel, guidance_embeds=guided)
    assert_equal(ours, converted)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_chroma_is_where_diffusers_finds_it(tmp_path: Path, prefix: str) -> None:
    state = chroma()
    ours = found(CHROMA, state, tmp_path / "c.safetensors", {}, prefix)
    converted = convert_chroma_transformer_checkpoint_to_diffusers(dict(state))
    assert converted.keys() == parameters_of(ChromaTransformer2DModel, approximator_layers=LAYERS)
    assert_equal(ours, converted)


@pytest.mark.parametrize("ending", [".scale", ".weight"])
@pytest.mark.parametrize("prefix", DENOISER_PREFIXES)
def test_norms_have_two_names_after_any_prefix(tmp_path: Path, prefix: str, ending: str) -> None:
    """ComfyUI, InvokeAI and ComfyUI-GGUF name the factor `weight`, the published files `scale`."""
    for family, published, config in (
        (FLUX, latents_in(flux(guided=True)), {"guidance_embeds": True}),
        (CHROMA, latents_in(chroma()), {}),
    ):
        state = {
            name.removesuffix(".scale") + ending if name.endswith(".scale") else name: value
            for name, value in published.items()
        }
        path = tmp_path / f"{family.title}.safetensors"
        assert_equal(
            found(family, state, path, config, prefix),
            found(family, published, tmp_path / "published.safetensors", config, ""),
        )
        header = SingleFileHeader(path, read_header(path), {})
        assert recognise(header) is family
        assert family.held(header.tensors) == {"transformer"}


@pytest.mark.parametrize("prefix", ["", "transformer.", "model.diffusion_model."])
def test_a_transformer_under_diffusers_names_is_read(tmp_path: Path, prefix: str) -> None:
    of_flux, of_chroma = latents_in(flux(guided=True)), latents_in(chroma())
    for family, converted, config in (
        (
            FLUX,
            convert_flux_transformer_checkpoint_to_diffusers(of_flux),
            {"guidance_embeds": True},
        ),
        (CHROMA, convert_chroma_transformer_checkpoint_to_diffusers(of_chroma), {}),
    ):
        state = {name: value.contiguous() for name, value in converted.items()}
        path = tmp_path / f"{family.title}.safetensors"
        assert_equal(found(family, state, path, config, prefix), state)
        assert recognise(SingleFileHeader(path, read_header(path), {})) is family


ENCODERS = {
    FLUX.title: {
        "text_encoder": "text_encoders.clip_l.transformer.text_model.encoder.layers.0.x",
        "text_encoder_2": "text_encoders.t5xxl.transformer.encoder.block.0.x",
        "vae": "vae.decoder.conv_in.weight",
    },
    CHROMA.title: {
        "text_encoder": "text_encoders.t5xxl.transformer.encoder.block.0.x",
        "vae": "vae.decoder.conv_in.weight",
    },
}


@pytest.mark.parametrize("family", [FLUX, CHROMA], ids=["flux", "chroma"])
def test_every_network_but_the_transformer_may_be_absent(
    tmp_path: Path, family: SingleFileFamily
) -> None:
    others = ENCODERS[family.title]
    assert family.networks.keys() == {"transformer", *others}
    denoiser = latents_in(flux(guided=True) if family is FLUX else chroma())
    path = tmp_path / "file.safetensors"
    for lacking in others:
        there = {name: torch.zeros(2, 2) for key, name in others.items() if key != lacking}
        save_file({**denoiser, **there}, path)
        assert networks_in_file(path) == family.networks.keys() - {lacking}
    save_file({name: torch.zeros(2, 2) for name in others.values()}, path)
    with pytest.raises(SourceError, match="text encoders or a VAE without the denoiser"):
        networks_in_file(path)


@pytest.mark.parametrize(("guided", "base"), [(True, "dev"), (False, "schnell")])
def test_a_bare_transformer_is_named_with_the_base_of_its_kind(
    tmp_path: Path, guided: bool, base: str
) -> None:
    path = tmp_path / "f.safetensors"
    save_file(latents_in(flux(guided=guided)), path)
    with pytest.raises(
        SourceError,
        match=rf"the transformer of Flux alone .*build {path} --name NAME --base .*FLUX.1-{base}$",
    ):
        open_source(path)


@pytest.mark.parametrize(
    ("guided", "base"), [(True, "FLUX.1-dev"), (False, "FLUX.1-schnell")], ids=["dev", "schnell"]
)
def test_the_other_flux_as_its_base_is_refused(tmp_path: Path, guided: bool, base: str) -> None:
    config = {"guidance_embeds": not guided}
    with pytest.raises(SourceError, match=rf"f.safetensors: .* expected --base .*{base}"):
        found(FLUX, flux(guided=guided), tmp_path / "f.safetensors", config, "")
