"""Predictions before and after each fusion, for a picture, and their chart."""

from xml.etree import ElementTree as ET

import onnx_ir as ir
import pytest

from benchmarks.roofline.chart import stage_bars
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.picture import picture
from benchmarks.roofline.prediction import Prediction, Row
from benchmarks.roofline.stages import Stage, fused_in_turn, table, that_matter
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.fusions import FUSIONS
from runtime.package.manifest import load_package
from tests.tiny.lora_packs import ENGINES

EXTENTS = {"batch": 1, "evaluations": 2, "height": 16, "width": 16, "tokens": 77}


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    package = load_package(ENGINES, "demo")
    record = package.manifest.roles["denoiser"]
    model = ir.load(package.file(record.graph))
    parameters = [each.initializer for each in record.parameters.values()]
    optimise(model, "fp16", parameters, fusions=())
    return table(fused_in_turn(model), EXTENTS, GPUS.values())


def ends(stages: list[Stage]) -> tuple[Stage, Stage]:
    return stages[0], stages[-1]


def test_fusions_take_launches_away_one_after_another(stages: list[Stage]) -> None:
    assert [stage.name for stage in stages] == ["before", *(each.__name__ for each in FUSIONS)]
    counts = [stage.predictions["h200"].launches for stage in stages]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]


def test_no_fusion_takes_away_what_is_necessary(stages: list[Stage]) -> None:
    first, last = (
        {row.kind: row.ms for row in each.predictions["h200"].rows} for each in ends(stages)
    )
    for kind in ("attention", "convolution"):
        assert last[kind] == pytest.approx(first[kind])


def test_the_bound_is_below_what_is_predicted(stages: list[Stage]) -> None:
    for stage in ends(stages):
        for found in stage.predictions.values():
            assert found.bound_ms < found.ms <= found.worst_ms


def test_stages_that_change_nothing_are_left_out(stages: list[Stage]) -> None:
    doubled = [each for stage in stages for each in (stage, stage)]
    assert that_matter(doubled) == that_matter(stages)


def test_the_chart_has_a_bar_for_each_stage_and_the_bound(stages: list[Stage]) -> None:
    root = ET.fromstring(stage_bars("a < b", "h200", stages))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b"
    assert {stage.name for stage in stages} | {"bound"} <= set(texts)
    assert f"{stages[0].predictions['h200'].ms:.1f} ms" in texts


def of(ms: float, worst: float, gap: float) -> Prediction:
    return Prediction("h200", (Row("x", 1, ms, worst),), gap, gap / 2)


def test_a_picture_is_its_steps_its_text_and_its_decoding() -> None:
    roles = {
        "denoiser": of(10, 12, 2),
        "text_encoder": of(1, 1, 0),
        "text_encoder_2": of(2, 2, 0),
        "vae_decoder": of(50, 50, 0),
        "preview_decoder": of(3, 3, 0),
    }
    plain = picture(roles, 7, graphs=False)
    assert plain.ms == 3 + 7 * 12 + 50
    assert plain.previews_ms == 7 * 3
    assert picture(roles, 7, graphs=True, worst=True).steps_ms == 7 * 13
