"""The benchmark of a mixed load, on the demo: both servers draw the same requests."""

from pathlib import Path

from benchmarks.plain import PlainOptions, tried
from benchmarks.subjects import subject
from benchmarks.throughput import CLOSED, PLAIN, bodies_of
from tests.benchmarks.running import run

OURS = "onnxruntime-cpu"
PICTURES = 4


def test_both_servers_draw_a_closed_and_a_random_load(tmp_path: Path, work: Path) -> None:
    flags = ("--work", str(work), "--turns", "1", "--warm", "0", "--pictures", str(PICTURES))
    flags += ("--clients", "2", "--load", "2", "--plain-threads", "1", "--plain-batch", "2")
    flags += ("--mix", "64:2,160:40", "--max-batch", "1")
    result = run("throughput", tmp_path / "throughput.json", *flags)
    assert result["faults"] == {}
    assert result["mix"] == [{"size": 64, "steps": 2}, {"size": 160, "steps": 40}]
    (tried,) = result["plain_server_tried"]
    assert (tried["threads"], tried["batch"]) == (1, 2)
    assert set(result["engines"]) == {OURS, f"{OURS}, --max-batch 1"}
    rate = result["arrivals_a_second"]["Poisson 2"]
    assert abs(rate - 2 * tried["pictures_a_second"]) < 1e-3
    figures = result["figures"]
    for load in (CLOSED, "Poisson 2"):
        for name in (OURS, f"{OURS}, previews", f"{OURS}, --max-batch 1", PLAIN):
            assert len(figures[f"{name}, {load}: wait"]["values"]) == PICTURES
            assert figures[f"{name}, {load}: pictures a second"]["better"] == "higher"
        assert f"{OURS}, previews, {load}: first preview" in figures
        assert f"{OURS}, {load}: first preview" not in figures
        ours, plain = (figures[f"{name}, {load}: wait"]["mean"] for name in (OURS, PLAIN))
        ratio = figures[f"{OURS} / {PLAIN}, {load}: mean"]["p50"]
        assert abs(ratio - ours / plain) < 1e-3 * ratio


def test_the_same_turn_has_the_same_pictures_with_other_prompts_for_previews(work: Path) -> None:
    demo = subject("demo", work)
    without, shown = (bodies_of(demo, 20, 3, previews=previews) for previews in (False, True))
    assert without == bodies_of(demo, 20, 3, previews=False)
    fields = ("width", "height", "steps", "seed")
    for one, other in zip(without, shown, strict=True):
        assert [one[field] for field in fields] == [other[field] for field in fields]
        assert one["prompt"] != other["prompt"]
    assert {(body["width"], body["steps"]) for body in without} > {(128, 8)}
    seeds = [body["seed"] for turn in range(3) for body in bodies_of(demo, 20, turn, previews=True)]
    assert len(set(seeds)) == len(seeds)


def test_the_plain_server_is_tried_with_threads_first_and_batches_then() -> None:
    # Two threads are better here, and batches of 2 the best.
    rates = {(1, 1): 1.0, (2, 1): 1.5, (2, 2): 2.0, (2, 4): 1.8}
    first = PlainOptions(Path("nowhere"), threads=1)
    found = tried(first, [1, 2], [1, 2, 4], lambda each: rates[each.threads, each.batch])
    assert {(each.threads, each.batch): rate for each, rate in found.items()} == rates
