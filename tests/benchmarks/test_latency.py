"""The benchmark of one request alone, on the demo: every contestant draws the same pictures."""

from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.contestants import EAGER, in_process, over_http
from tests.benchmarks.running import run

OURS = "onnxruntime-cpu"


def test_contestants_draw_the_same_picture_and_are_timed_by_stage(
    tmp_path: Path, work: Path
) -> None:
    output = tmp_path / "latency.json"
    flags = ("--work", str(work), "--turns", "2", "--warm", "0", "--steps", "3")
    result = run("latency", output, *flags)
    # fp32 on both sides: a channel's value may be rounded to its neighbour.
    assert set(result["largest_difference_of_255"]) == {
        over_http(OURS, previews=False),
        in_process(OURS, previews=False),
        EAGER,
    }
    assert max(result["largest_difference_of_255"].values()) <= 1
    figures = result["figures"]
    served, shown = over_http(OURS, previews=False), over_http(OURS, previews=True)
    for name in (served, shown, in_process(OURS, previews=True), EAGER):
        assert len(figures[f"{name}: total"]["values"]) == 2
        for stage in (each for each in figures if each.startswith(f"{name}: ")):
            parts = zip(figures[stage]["values"], figures[f"{name}: total"]["values"], strict=True)
            # Several threads may take more of processors than the picture takes of time.
            beside = f"{name}: added by HTTP", f"{name}: processor"
            # A picture whose previews all fell behind has no first preview.
            sometimes = f"{name}: first preview"
            if stage not in (f"{EAGER}: save", sometimes, *beside):
                assert all(0 <= part <= total for part, total in parts), stage
    assert f"{served}: first preview" not in figures
    ratio = figures[f"{served} / {EAGER}"]
    totals = [figures[f"{name}: total"]["values"] for name in (served, EAGER)]
    for value, ours, theirs in zip(ratio["values"], *totals, strict=True):
        assert abs(value - ours / theirs) < 1e-4 * value
    assert figures[f"{OURS}: submit while busy"]["smallest"] > 0
    ET.parse(output.with_suffix(".svg"))
