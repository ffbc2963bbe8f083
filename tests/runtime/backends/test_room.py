"""The room that a model takes of a GPU, and the place that its text encoders get for that."""

import logging
import shutil
from pathlib import Path

import pytest

from runtime.backends.placing import COSTS, Placing, placed_on_cpu
from runtime.backends.room import (
    LIBRARIES_BYTES,
    HostRoom,
    Needs,
    host_room,
    placed,
    run_bytes,
    target_needs,
)
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, load_package
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

GB = 10**9
WEIGHTS = {"denoiser": 18 * GB, "text_encoder": 9 * GB, "text_encoder_2": GB, "vae_decoder": GB}
NEEDS = Needs(WEIGHTS, 2 * GB)
ROOMY = HostRoom(20 * GB, 64 * GB)
NARROW = HostRoom(20 * GB, 19 * GB)


def at(free: int, total: int = 80 * GB) -> tuple[int, int]:
    return free, total


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.mark.parametrize(
    ("free", "host", "place"),
    [
        (31 * GB, ROOMY, "keep"),
        (31 * GB - 1, ROOMY, "cpu"),
        (21 * GB, ROOMY, "cpu"),
        # Only runs are said to lack room, and what is said of runs is an estimate.
        (30 * GB, NARROW, "keep"),
        (30 * GB, HostRoom(20 * GB, None), "cpu"),
    ],
)
def test_auto_keeps_what_fits_with_its_runs(free: int, host: HostRoom, place: str) -> None:
    found = placed("auto", NEEDS, at(free), host)
    assert found.place == place
    assert "chosen by auto" in found.note


def test_what_may_be_wanted_beside_open_engines_is_runs_and_text_that_is_put_aside() -> None:
    found = {place: NEEDS.beside_weights(place) for place in COSTS}
    assert found == {"keep": 2 * GB, "aside": 12 * GB, "cpu": 2 * GB}


def test_what_was_found_is_said_in_any_case(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="runtime.backends.room"):
        found = placed("keep", NEEDS, at(40 * GB), ROOMY)
    assert found.note in caplog.text
    assert found.note == (
        "the engines take some 29.00 GB (denoiser 18.00, text_encoder 9.00, text_encoder_2 1.00, "
        "vae_decoder 1.00), and their runs 2.00 more by an estimate; 40.00 of 80.00 GB of the GPU "
        "are free; text encoders stay open (as asked for)"
    )


@pytest.mark.parametrize("wish", ["keep", "aside"])
def test_weights_that_do_not_fit_are_refused_with_what_would(wish: str) -> None:
    with pytest.raises(BackendError) as refused:
        placed("keep" if wish == "keep" else "aside", NEEDS, at(29 * GB - 1), ROOMY)
    said = str(refused.value)
    assert "text_encoder 9.00" in said
    assert "29.00 of 80.00 GB of the GPU are free" in said
    assert "with --text-encoders cpu some 21.00 GB are enough" in said
    assert "20.00 GB of the machine's memory, available: 64.00 GB" in said
    assert "draw with --backend onnxruntime-cpu" in said


@pytest.mark.parametrize("wish", ["auto", "cpu"])
def test_no_place_of_the_encoders_helps_where_the_rest_does_not_fit(wish: str) -> None:
    with pytest.raises(
        BackendError, match=r"compile a target of a narrower --precision"
    ) as refused:
        placed("auto" if wish == "auto" else "cpu", NEEDS, at(19 * GB - 1), ROOMY)
    assert "--text-encoders" not in str(refused.value)


def test_auto_has_no_way_out_where_the_machine_has_no_memory_either() -> None:
    with pytest.raises(BackendError, match=r"available: 19\.00 GB"):
        placed("auto", NEEDS, at(25 * GB), NARROW)
    with pytest.raises(BackendError, match=r"--text-encoders cpu takes 20\.00 GB .* 19\.00 GB"):
        placed("cpu", NEEDS, at(40 * GB), NARROW)


def test_an_estimate_warns_and_refuses_nothing() -> None:
    found = placed("keep", NEEDS, at(29 * GB), ROOMY)
    assert found.note.endswith(
        "runs may lack 2.00 GB, so serve fewer pictures at once, or smaller ones"
    )
    assert "may lack" not in placed("keep", NEEDS, at(31 * GB), ROOMY).note


def test_a_target_needs_its_weights_and_runs_of_its_largest_size(
    package: ModelPackage, tmp_path: Path
) -> None:
    copy = shutil.copytree(package.path, tmp_path / "demo")
    made = Made(backend="onnxruntime-cuda", sizes=((64, 64), (128, 64)))
    needs = target_needs(add_target(copy, made), package.manifest)
    stored = {name: role.weights_bytes for name, role in package.manifest.roles.items()}
    assert all(needs.weights[role] > size for role, size in stored.items())
    assert needs.runs == run_bytes(128 * 64) > LIBRARIES_BYTES
    text = [needs.weights[role] for role in ("text_encoder", "text_encoder_2")]
    assert needs.weights_at("keep") - needs.weights_at("cpu") == sum(text) == needs.text


def test_on_the_cpu_each_weight_takes_four_bytes(package: ModelPackage) -> None:
    roles = package.manifest.roles
    stored = sum(roles[name].weights_bytes for name in ("text_encoder", "text_encoder_2"))
    dtypes = {each.dtype for each in roles["text_encoder"].parameters.values()}
    assert host_room(package.manifest).wanted == stored * (2 if dtypes == {"F16"} else 1)


def test_where_all_is_on_the_cpu_encoders_are_put_aside_on_demand_alone() -> None:
    assert [placed_on_cpu(wish) for wish in ("auto", "keep", "cpu")] == [Placing()] * 3
    assert placed_on_cpu("aside").place == "aside"
