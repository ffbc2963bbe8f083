"""The benchmark of switching between models, on the demo and a tiny one."""

from pathlib import Path

from tests.benchmarks.running import run


def test_a_switch_is_timed_beside_a_picture_of_a_model_that_is_loaded(
    tmp_path: Path, tiny_package: Path
) -> None:
    flags = ("--engines", str(tiny_package), "--other", "tiny", "--turns", "1", "--warm", "0")
    figures = run("models", tmp_path / "models.json", *flags)["figures"]
    for name in ("demo", "tiny"):
        assert figures[f"switching to {name}"]["p50"] > 0
        for title in ("one at a time", "both loaded"):
            for way in ("switched to", "again"):
                assert figures[f"{title}: {name} {way}"]["unit"] == "s"
