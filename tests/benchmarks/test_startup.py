"""The benchmark of a server's start, on the demo."""

from pathlib import Path

from benchmarks.startup import IMPORTS, PLAIN, UNITS
from tests.benchmarks.running import run


def test_starts_of_both_servers_are_timed_and_weighed(tmp_path: Path, work: Path) -> None:
    flags = ("--work", str(work), "--turns", "1", "--warm", "0")
    figures = run("startup", tmp_path / "startup.json", *flags)["figures"]
    for name in ("onnxruntime-cpu", PLAIN):
        found = {quantity: figures.get(f"{name}: {quantity}") for quantity in UNITS}
        assert found.pop("imports") is None
        values = {quantity: figure["p50"] for quantity, figure in found.items() if figure}
        assert values.keys() == found.keys()
        assert 0 < values["first answer"] <= values["ready"] < values["first picture"]
        assert values["processor time until ready"] > 0
        # Each is a Python with the libraries that it draws with.
        assert values["memory when ready"] > 50
    for name in IMPORTS:
        assert figures[f"imports of {name}"]["unit"] == "s"
