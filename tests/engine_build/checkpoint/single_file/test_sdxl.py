"""SDXL in SGM's naming: every tensor where diffusers' own converters find it."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file

from benchmarks.tiny.models import SourceOptions, sdxl_pipeline
from engine_build.checkpoint.single_file.family import SingleFileHeader
from engine_build.checkpoint.single_file.sdxl import SDXL, scheduler
from engine_build.checkpoint.weights import read_header
from engine_build.package.state import read_tensor
from runtime.errors import SourceError
from tests.engine_build.checkpoint.single_file import sgm

PREFIX = {
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}


@pytest.fixture(scope="module", params=[False, True], ids=["three levels", "two levels"])
def pipeline(request: pytest.FixtureRequest) -> StableDiffusionXLPipeline:
    return sdxl_pipeline(SourceOptions(shallow=request.param))


@pytest.fixture(scope="module")
def header(
    pipeline: StableDiffusionXLPipeline, tmp_path_factory: pytest.TempPathFactory
) -> SingleFileHeader:
    path = sgm.write(pipeline, tmp_path_factory.mktemp("single") / "model.safetensors")
    return SingleFileHeader(path, read_header(path), {})


def found(header: SingleFileHeader, name: str, config: dict[str, object]) -> sgm.State:
    tensors = SDXL.networks[name].find(header, config)
    return {name: read_tensor(tensor) for name, tensor in tensors.items()}


def assert_equal(found: sgm.State, expected: sgm.State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name].reshape(tensor.shape), tensor), name


def test_the_unet_is_where_diffusers_finds_it(
    pipeline: StableDiffusionXLPipeline, header: SingleFileHeader
) -> None:
    config = dict(pipeline.unet.config)
    converted = convert_ldm_unet_checkpoint(sgm.state(pipeline), config)
    assert_equal(converted, pipeline.unet.state_dict())
    assert_equal(found(header, "unet", config), converted)


def test_the_vae_is_where_diffusers_finds_it(
    pipeline: StableDiffusionXLPipeline, header: SingleFileHeader
) -> None:
    config = dict(pipeline.vae.config)
    converted = convert_ldm_vae_checkpoint(sgm.state(pipeline), config)
    assert_equal(converted, pipeline.vae.state_dict())
    assert_equal(found(header, "vae", config), converted)


def test_the_first_text_encoder_is_there_under_its_published_names(
    pipeline: StableDiffusionXLPipeline, header: SingleFileHeader
) -> None:
    expected = sgm.clip(pipeline.text_encoder.state_dict())
    assert_equal(found(header, "text_encoder", {}), expected)


def test_the_second_text_encoder_is_where_diffusers_finds_it(
    pipeline: StableDiffusionXLPipeline, header: SingleFileHeader
) -> None:
    network = pipeline.text_encoder_2
    converted = convert_open_clip_checkpoint(
        network, sgm.state(pipeline), "conditioner.embedders.1.model."
    )
    assert_equal(converted, network.state_dict())
    assert_equal(found(header, "text_encoder_2", {}), converted)


BASE = {"prediction_type": "epsilon", "timestep_spacing": "leading", "beta_start": 0.00085}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("markers", "metadata", "changes"),
    [
        ((), {}, {}),
        (("v_pred",), {}, {"prediction_type": "v_prediction"}),
        (("v_pred", "ztsnr"), {}, {"prediction_type": "v_prediction", **ZERO_SNR}),
        ((), {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec.predict_key": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec.prediction_type": "epsilon"}, {}),
        (
            ("v_pred",),
            {"modelspec.prediction_type": "epsilon"},
            {"prediction_type": "v_prediction"},
        ),
    ],
)
def test_the_file_says_what_it_predicts(
    tmp_path: Path, markers: tuple[str, ...], metadata: dict[str, str], changes: dict[str, object]
) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {name: torch.tensor([]) for name in markers}
    save_file({**tensors, "other": torch.zeros(1)}, path)
    header = SingleFileHeader(path, read_header(path), metadata)
    assert scheduler(BASE, header) == {**BASE, **changes}


def test_epsilon_in_the_file_overrides_a_base_that_predicts_v(tmp_path: Path) -> None:
    header = SingleFileHeader(tmp_path, {}, {"modelspec.prediction_type": "epsilon"})
    assert scheduler({"prediction_type": "v_prediction"}, header)["prediction_type"] == "epsilon"


def test_a_prediction_that_we_do_not_know_is_named(tmp_path: Path) -> None:
    header = SingleFileHeader(tmp_path, {}, {"modelspec.prediction_type": "sample"})
    with pytest.raises(SourceError, match=r"modelspec.prediction_type = 'sample', expected v or"):
        scheduler(BASE, header)
