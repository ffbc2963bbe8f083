"""Measures the first step of a model of published size on a CPU, and checks that it is finite.

    python -m benchmarks.build_memory sdxl --engines FOLDER
    python -m benchmarks.real_step measured --engines FOLDER

The runtime's own code reads, plans, encodes and denoises a request, guided where the model takes a
negative prompt; the image predicted at the first step is decoded. Only the sessions differ from the
runtime's: they are opened without optimisation and prepacking, so that weights stay in the
package's mapped files and are widened while a graph runs. The runtime's sessions would hold all
weights in memory in fp32 for as long as they are open.
"""

import argparse
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import RESULTS, benchmark_parser
from benchmarks.machine import write
from benchmarks.memory import RESIDENT, held_gb
from engine_build.package.verify import frugal_options
from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.low_rank import Weights
from runtime.backends.onnxruntime.cpu import open_session
from runtime.backends.placing import Placing
from runtime.backends.protocol import Array, Denoiser, Engine, Started
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage
from runtime.plan.model import Model, open_model
from runtime.plan.plan import Plan

PROMPT = "a lighthouse on a rock in the sea, evening light"
_PAUSE = 0.05


class FrugalEngine:
    """Engine of one graph whose weights stay in their mapped file."""

    def __init__(self, package: ModelPackage, role: str) -> None:
        record = package.manifest.roles[role]
        self._role = role
        self._session = open_session(
            package.file(record.graph), frugal_options(), package.weights_folder(role)
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run the graph at once."""
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays; its outputs by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def replace_weights(self, weights: Weights) -> None:
        """Raises BackendError for any weights: LoRAs are not supported here."""
        if weights:
            raise BackendError(f"{self._role}: weights cannot be replaced")

    def close(self) -> None:
        """Close the session."""
        del self._session


class FrugalCpu:
    """Backend whose engines are `FrugalEngine`."""

    name = "onnxruntime-cpu, its weights in mapped files"
    device = "cpu"
    multiplies_updates = False
    few_shapes = False
    placing = Placing()

    def __init__(self, package: ModelPackage) -> None:
        self._package = package

    def open(self, role: str) -> Engine:
        """Open one of the package's networks."""
        return FrugalEngine(self._package, role)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph."""
        return HostDenoiser(self.open("denoiser"))

    def check_loras(self) -> None:
        """Raises BackendError: LoRAs are not supported here."""
        raise BackendError(f"{self.name}: LoRAs are not supported")


@dataclass(slots=True)
class Part:
    """Time and memory of one part of the work."""

    title: str
    seconds: float = 0.0
    peak_gb: float = 0.0
    """Most memory beside the page cache."""
    peak_resident_gb: float = 0.0
    """Most memory including the resident pages of mapped files."""


class Watch:
    """Sampler of this process's memory while a part of the work runs."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Measure the block as a part of this title, and print the part."""
        part, ended = Part(title), threading.Event()
        self.parts.append(part)
        sampler = threading.Thread(target=self._sample, args=(part, ended))
        begun = time.monotonic()
        sampler.start()
        try:
            yield
        finally:
            part.seconds = time.monotonic() - begun
            ended.set()
            sampler.join()
        print(f"{title:<30} {part.seconds:8.1f} s {part.peak_gb:6.2f} GB", flush=True)

    def _sample(self, part: Part, ended: threading.Event) -> None:
        while True:
            part.peak_gb = max(part.peak_gb, held_gb("self"))
            part.peak_resident_gb = max(part.peak_resident_gb, held_gb("self", RESIDENT))
            if ended.wait(_PAUSE):
                return


def main() -> None:
    """Measure, print, and write the result."""
    arguments = _parser().parse_args()
    watch = Watch()
    with watch.part("check the package's files"):
        model = open_model(arguments.engines, arguments.model)
    with watch.part("open every graph"):
        generator = Generator(model, FrugalCpu(model.package))
    plan = model.plan(model.read(_body(model, arguments.size)))
    with watch.part("encode the prompts"):
        generator.conditioning(plan)
    steps = generator.steps(plan)
    with watch.part("the first step"):
        event = next(steps)
    latents, predicted = generator.latents(event.sample), generator.predicted(event.sample)
    with watch.part("decode the picture"):
        picture = generator.decode(predicted)
    result = {
        "model": arguments.model,
        "family": model.package.manifest.family,
        "backend": generator.backend.name,
        **_shape(plan),
        "finite": bool(np.isfinite(latents).all() and np.isfinite(predicted).all()),
        "latents": _spread(latents),
        "predicted": _spread(predicted),
        "picture": {"shape": picture.shape, **_spread(picture)},
        "peak_gb": round(max(part.peak_gb for part in watch.parts), 2),
        "parts": [_rounded(part) for part in watch.parts],
    }
    output = arguments.output or RESULTS / f"real_step_{result['family']}.json"
    write(result, output)
    print(f"finite: {result['finite']}; at most {result['peak_gb']} GB beside the page cache")
    if not result["finite"]:
        raise SystemExit(f"{arguments.model}: the first step's latents are not finite")


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("model", help="a package's name")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="default: engines")
    parser.add_argument("--size", type=int, default=512, help="of a side, in pixels; default: 512")
    return parser


def _body(model: Model, size: int) -> dict[str, Any]:
    negative = model.family.facts(model.package.manifest).negative_prompt
    body = {"prompt": PROMPT, "width": size, "height": size, "seed": 0}
    return {**body, "negative_prompt": "blurry, low quality"} if negative else body


def _shape(plan: Plan) -> dict[str, Any]:
    request = plan.request
    return {
        "size": [request.width, request.height],
        "evaluations": len(plan.mixes[0]),
        "sampler": request.sampler,
        "step": f"1 of {plan.steps}",
    }


def _spread(values: Array) -> dict[str, float]:
    return {
        "smallest": float(values.min()),
        "largest": float(values.max()),
        "deviation": float(values.std()),
    }


def _rounded(part: Part) -> dict[str, Any]:
    return {key: round(v, 2) if isinstance(v, float) else v for key, v in asdict(part).items()}


if __name__ == "__main__":
    main()
