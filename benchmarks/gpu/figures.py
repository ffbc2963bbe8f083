"""Figures of a run, read out of the results of its parts by name."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.served_picture import FIRST, PLAIN, PREVIEWED

Results = Mapping[str, Any]
"""Results of the parts, by the part's name."""

_TENTH = 9
"""Index of the tenth picture."""


def _picture(series: str) -> Callable[[Results], float]:
    return lambda results: _served(results, series)["client"]["picture_ms"]["median"] / 1e3


def _served(results: Results, title: str) -> Any:
    return {each["title"]: each for each in results["served"]["series"]}[title]


def _first_to_tenth(results: Results) -> float:
    # The very first picture after ready is a series of its own.
    (first,) = _served(results, FIRST)["client"]["each_ms"]
    tenth = _served(results, PLAIN)["client"]["each_ms"][_TENTH - 1]
    return float(first / tenth - 1)


def _share_of_previews(results: Results) -> float:
    with_previews, without = (_picture(title)(results) for title in (PREVIEWED, PLAIN))
    return with_previews / without - 1


def _loop(every: int) -> Callable[[Results], float]:
    return lambda results: {
        each["preview_every"]: each["in_a_row"] for each in results["served"]["loops"]
    }[every]


def _in_process(part: str, figure: str, series: str = "pictures") -> Callable[[Results], float]:
    """Median of a series, without its first two pictures where there are more."""

    def read(results: Results) -> float:
        drawn: Sequence[Mapping[str, float]] = results[part][series]
        return median(each[figure] for each in (drawn[2:] or drawn))

    return read


def _in_process_first(results: Results) -> float:
    drawn = results["pictures"]["pictures"]
    return float(drawn[0]["picture_ms"] / drawn[_TENTH]["picture_ms"] - 1)


def _in_process_previews(results: Results) -> float:
    with_previews, without = (
        _in_process("pictures", "picture_ms", series)(results)
        for series in ("with_previews", "pictures")
    )
    return with_previews / without - 1


def _lora(kind: str, figure: str) -> Callable[[Results], float]:
    return lambda results: results["loras"]["kinds"][kind][figure]


def _compiled(results: Results) -> float:
    """Seconds of the best mode of torch.compile that ran. Raises LookupError where none ran."""
    modes = results["diffusers"]["compiled"].values()
    ran = sorted(float(mode["picture_s"]) for mode in modes if "picture_s" in mode)
    return ran[0]


def _profiled(part: str, figure: str) -> Callable[[Results], float]:
    return lambda results: results[part]["profiled"][figure]


FIGURES: Mapping[str, Callable[[Results], float]] = {
    "picture with previews, s": _picture(PREVIEWED),
    "picture, s": _picture(PLAIN),
    "previews, share": _share_of_previews,
    "first to tenth, share": _first_to_tenth,
    "LoRA change, ms": _lora("matrices", "change_ms"),
    "LoRA change, MB uploaded": _lora("matrices", "uploaded_mb"),
    "LoRA step, share": _lora("matrices", "share"),
    "LoRA change with kernels, ms": _lora("matrices and kernels", "change_ms"),
    "LoRA step with kernels, share": _lora("matrices and kernels", "share"),
    "loop, pictures a second": _loop(0),
    "loop with previews, pictures a second": _loop(1),
    "ready, s": lambda results: results["served"]["ready_seconds"],
    "in process: picture, ms": _in_process("pictures", "picture_ms"),
    "in process: text, ms": _in_process("pictures", "text_ms"),
    "in process: to latents, ms": _in_process("pictures", "to_latents_ms"),
    "in process: step, ms": _in_process("pictures", "step_ms"),
    "in process: decode, ms": _in_process("pictures", "decode_ms"),
    "in process: previews, share": _in_process_previews,
    "in process: first to tenth, share": _in_process_first,
    "without CUDA graphs: picture, ms": _in_process("plain", "picture_ms"),
    "without CUDA graphs: step, ms": _in_process("plain", "step_ms"),
    "kernels of a step, ms": _profiled("pictures", "kernels_ms_a_step"),
    "launches of a step": _profiled("pictures", "launches_a_step"),
    "device memory of engines, GB": lambda results: (
        sum(
            size
            for use, size in results["pictures"]["device_memory"].items()
            if use not in ("free", "total")
        )
        / 1e9
    ),
    "diffusers, eager: picture, s": lambda results: results["diffusers"]["eager"]["picture_s"],
    "diffusers, torch.compile: picture, s": _compiled,
    "diffusers, eager: device memory, GB": lambda results: (
        results["diffusers"]["eager"]["device_memory"] / 1e9
    ),
}
"""Figures by name: what is read, and the unit. A share is relative: 0.03 is three per cent."""


def figures(results: Results) -> dict[str, float]:
    """Those figures that the results have, by name; a part that is missing gives none."""
    there = {name: result for name, result in results.items() if result is not None}
    found = {}
    for name, read in FIGURES.items():
        try:
            value = read(there)
        except LookupError:
            # A part that failed leaves its result out, or entries and pictures of it.
            continue
        if value is not None:
            found[name] = round(float(value), 5)
    return found
