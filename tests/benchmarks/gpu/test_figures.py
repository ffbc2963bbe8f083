"""Figures of a run and the table of aims: computed from given results."""

from typing import Any

import pytest

from benchmarks.gpu.families import FAMILIES, Aim
from benchmarks.gpu.figures import FIGURES, figures
from benchmarks.gpu.parts import Part
from benchmarks.gpu.table import MET, MISSED, UNKNOWN, changes, needed, printed, verdicts


def series(title: str, *milliseconds: float) -> dict[str, Any]:
    ordered = sorted(milliseconds)
    client = {
        "picture_ms": {"median": ordered[len(ordered) // 2]},
        "each_ms": [*milliseconds],
    }
    return {"title": title, "client": client}


def loop(every: int, rate: float) -> dict[str, Any]:
    return {"preview_every": every, "in_a_row": rate}


SERVED = {
    "ready_seconds": 12.5,
    "series": [
        series("first", 990.0),
        series("no previews", *[950.0] * 8, 900.0, 950.0, 950.0),
        series("a preview a step", *[969.0] * 11),
    ],
    "loops": [loop(0, 2.5), loop(1, 2.3)],
}
LORAS = {
    "kinds": {
        "matrices": {"change_ms": 151.0, "uploaded_mb": 87.0, "share": 0.029},
        "matrices and kernels": {"change_ms": 200.0, "share": 0.05},
    }
}


def drawn(*milliseconds: float) -> list[dict[str, float]]:
    return [
        {
            "picture_ms": each,
            "text_ms": 5.0,
            "to_latents_ms": each - 60,
            "step_ms": each / 30,
            "decode_ms": 60.0,
        }
        for each in milliseconds
    ]


PICTURES = {
    "pictures": drawn(1300, 1000, *[900] * 6, 910, 920),
    "with_previews": drawn(1300, 1000, *[918] * 8),
    "device_memory": {"engines": 8 * 10**9, "buffers": 10**9, "free": 5, "total": 10**12},
    "profiled": {"kernels_ms_a_step": 26.5, "launches_a_step": 1290.0},
}
DIFFUSERS = {
    "eager": {"picture_s": 3.1, "device_memory": 9 * 10**9},
    "compiled": {
        "default": {"picture_s": 2.0},
        "reduce-overhead": {"failed": "no compiler"},
    },
}
RESULTS = {
    "package": None,
    "served": SERVED,
    "pictures": PICTURES,
    "loras": LORAS,
    "plain": {"pictures": drawn(1000, 1000, 1000)},
    "diffusers": DIFFUSERS,
}


def test_figures_are_what_the_parts_found() -> None:
    found = figures(RESULTS)
    assert found.keys() == FIGURES.keys()
    assert found["picture with previews, s"] == 0.969
    assert found["picture, s"] == 0.95
    assert found["previews, share"] == pytest.approx(0.02)
    # The tenth after ready is the ninth of the series behind the first.
    assert found["first to tenth, share"] == pytest.approx(0.1)
    assert found["loop, pictures a second"] == 2.5
    assert found["loop with previews, pictures a second"] == 2.3
    assert found["LoRA change, MB uploaded"] == 87
    assert found["LoRA change with kernels, ms"] == 200
    assert found["in process: picture, ms"] == 900
    assert found["in process: previews, share"] == pytest.approx(0.02)
    assert found["in process: first to tenth, share"] == pytest.approx(1300 / 920 - 1, abs=1e-5)
    assert found["device memory of engines, GB"] == 9
    assert found["kernels of a step, ms"] == 26.5
    assert found["in process: text, ms"] == 5
    assert found["diffusers, eager: picture, s"] == 3.1
    assert found["diffusers, eager: device memory, GB"] == 9
    assert found["diffusers, torch.compile: picture, s"] == 2.0


def test_what_a_part_did_not_find_has_no_figure() -> None:
    halfway = {**SERVED, "series": SERVED["series"][:2], "loops": []}
    found = figures({**RESULTS, "served": halfway, "loras": None, "diffusers": {"eager": {}}})
    assert "picture, s" in found
    missing = FIGURES.keys() - found.keys()
    assert missing == {
        "picture with previews, s",
        "previews, share",
        "loop, pictures a second",
        "loop with previews, pictures a second",
        "LoRA change, ms",
        "LoRA change, MB uploaded",
        "LoRA step, share",
        "LoRA change with kernels, ms",
        "LoRA step with kernels, share",
        "diffusers, eager: picture, s",
        "diffusers, eager: device memory, GB",
        "diffusers, torch.compile: picture, s",
    }


def test_a_compiler_that_never_ran_has_no_figure() -> None:
    broken = {**DIFFUSERS, "compiled": {"default": {"failed": "no compiler"}}}
    found = figures({**RESULTS, "diffusers": broken})
    assert FIGURES.keys() - found.keys() == {"diffusers, torch.compile: picture, s"}


def test_a_result_of_another_form_is_no_missing_figure() -> None:
    with pytest.raises(TypeError):
        figures({**RESULTS, "served": {**SERVED, "loops": [[0, 2.5]]}})


def test_aims_are_met_or_missed() -> None:
    aims = FAMILIES["sdxl"].aims
    assert {row["figure"]: row["is"] for row in verdicts(aims, figures(RESULTS))} == {
        "picture with previews, s": MET,
        "previews, share": MET,
        "first to tenth, share": MISSED,
        "LoRA change, ms": MISSED,
        "LoRA step, share": MET,
        "loop, pictures a second": MET,
    }


@pytest.mark.parametrize(
    ("aim", "value", "outcome"),
    [
        (Aim("x", 1.0), 0.999, MET),
        (Aim("x", 1.0), 1.0, MISSED),
        (Aim("x", 2.4, at_least=True), 2.41, MET),
        (Aim("x", 2.4, at_least=True), 2.4, MISSED),
        (Aim("x", 1.0), None, UNKNOWN),
    ],
)
def test_an_aim_is_on_one_side(aim: Aim, value: float | None, outcome: str) -> None:
    [row] = verdicts([aim], {} if value is None else {"x": value})
    assert (row["is"], row["value"]) == (outcome, value)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.model)
def test_every_aim_is_of_a_figure(family: Any) -> None:
    assert {aim.figure for aim in family.aims} <= FIGURES.keys()


def test_before_stands_beside_now() -> None:
    now, before = {"a, ms": 30.0, "a, share": 0.1}, {"a, ms": 40.0, "a, share": 0.2, "gone": 1.0}
    assert changes(now, before) == [
        ("a, ms", 40.0, 30.0, 0.75),
        ("a, share", 0.2, 0.1, None),
        ("gone", 1.0, None, None),
    ]


def test_tables_say_what_was_measured_and_where() -> None:
    found = figures(RESULTS)
    kinds = [{"what": "attention", "ms": 4.4, "launches": 140.0}]
    part = {
        "outcome": "ran",
        "seconds": 3.0,
        "reason": "",
        "result": {"profiled": {"kinds": kinds}},
    }
    failed = {"outcome": "failed", "seconds": 1.0, "reason": "no room", "result": None}
    text = printed(
        {
            "family": "sdxl",
            "backend": "onnxruntime-cuda",
            "rehearsal": False,
            "machine": {"gpu": "H200, 580.1", "python": "3.12.3", "versions": {"torch": "2.11"}},
            "parts": {"loras": failed, "pictures": part},
            "figures": found,
            "aims": verdicts(FAMILIES["sdxl"].aims, found),
            "before": {"picture, s": 1.9},
        }
    )
    lines = text.splitlines()
    assert lines[0] == "sdxl on H200, 580.1, onnxruntime-cuda; Python 3.12.3, torch 2.11"
    assert "| loras | failed | 1.0 | no room |" in lines
    assert "| LoRA change, ms | under 150 | 151 | missed |" in lines
    assert "| picture, s | 1.9 | 0.95 | 0.5 |" in lines
    assert "| attention | 4.400 | 140.0 |" in lines


def test_a_run_says_beforehand_what_it_needs() -> None:
    parts = [
        Part("package", 420, ("module",), about=100),
        Part("served", 240, ("module",), about=50),
        Part("loras", 0, (), "none"),
    ]
    lines = needed(FAMILIES["flux-dev"], parts).splitlines()
    assert "34 GB on disk" in lines[0]
    assert [line for line in lines if "loras" in line] == []
    assert "| all | 150 | 660 |" in lines
    # With LoRAs the package has a copy of the weights.
    assert "14 GB on disk" in needed(FAMILIES["sdxl"], parts)
