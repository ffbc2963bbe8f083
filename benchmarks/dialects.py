"""Measures what OpenAI's and AUTOMATIC1111's dialects add to a request of our own, in turns.

    python -m benchmarks.dialects

asks one server for the same picture by `/api/generate` (wait for its end, then fetch its file), by
`/v1/images/generations` and by `/sdapi/v1/txt2img`, whose answers hold the file in base64. Timed
from the request to the file's bytes at the client; those must be the same of a request of our own
and of the dialect. What a dialect adds is told turn by turn, and beside it what base64 and JSON
take for that file by themselves. AUTOMATIC1111's clients ask for the progress at any time, so that
its pictures are drawn with previews: it is held against a request of ours with them. Few steps are
drawn, so that the drawing hides little.
"""

import base64
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.frame import (
    RESULTS,
    Figure,
    Figures,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    show,
)
from benchmarks.server_process import ROOT, ServingError
from benchmarks.serving import PROMPT, Server, ServerOptions

OURS, PREVIEWED = "/api/generate", "/api/generate with previews"
OPENAI, A1111 = "/v1/images/generations", "/sdapi/v1/txt2img"
AGAINST: Mapping[str, str] = {OPENAI: OURS, A1111: PREVIEWED}
"""The request of ours that each dialect's is translated into."""
SIZE = 128
FIELDS: Mapping[str, Any] = {"prompt": PROMPT, "seed": 1}
"""The prompt is encoded once, before the first turn that counts."""


def main() -> int:
    """Measure, print, and write the result."""
    flags = benchmark_parser(__doc__)
    add_turn_flags(flags, turns=100, warm=5)
    flags.add_argument("--steps", type=int, default=4, metavar="N", help="of a picture; default: 4")
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = ServerOptions(ROOT / "engines", "demo", Path(folder), "onnxruntime-cpu")
        with Server(options) as server:
            ways = _ways(server, arguments.steps)
            figures = _figures(in_turns(ways, arguments.turns, warm=arguments.warm))
    result = {"model": "demo", "size": SIZE, "steps": arguments.steps}
    keep(result, arguments.output or RESULTS / "dialects_demo.json", figures)
    show(figures)
    return 0


def _ways(server: Server, steps: int) -> dict[str, Callable[[int], tuple[float, bytes]]]:
    """By address: a call that asks for the picture, and gives the seconds and the file."""
    common = {**FIELDS, "steps": steps}
    sides = {"width": SIZE, "height": SIZE}
    openai = {**common, "size": f"{SIZE}x{SIZE}", "response_format": "b64_json"}

    def ours(preview_every: int) -> bytes:
        body = {**common, **sides, "preview_every": preview_every}
        job = _post(server, OURS, body, {"Prefer": "wait=60"})
        return server.client.get(job["image"]["url"]).raise_for_status().content

    def by_openai() -> bytes:
        return base64.b64decode(_post(server, OPENAI, openai)["data"][0]["b64_json"])

    def by_a1111() -> bytes:
        return base64.b64decode(_post(server, A1111, {**common, **sides})["images"][0])

    return {
        OURS: _timed(partial(ours, 0)),
        OPENAI: _timed(by_openai),
        PREVIEWED: _timed(partial(ours, 1)),
        A1111: _timed(by_a1111),
    }


def _post(
    server: Server, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Any:
    answer = server.client.post(path, json=dict(body), headers=headers)
    if answer.status_code != 200:
        raise ServingError(f"{path}: {answer.text}")
    return answer.json()


def _timed(call: Callable[[], bytes]) -> Callable[[int], tuple[float, bytes]]:
    def timed(_turn: int) -> tuple[float, bytes]:
        began = time.perf_counter()
        content = call()
        return time.perf_counter() - began, content

    return timed


def _figures(taken: Mapping[str, Sequence[tuple[float, bytes]]]) -> Figures:
    """Milliseconds by way, what the dialects add, and what the base64 of the file takes.

    Raises ServingError where a picture of a dialect is another.
    """
    for path, ours in AGAINST.items():
        if len(files := {content for each in (path, ours) for _, content in taken[each]}) != 1:
            raise ServingError(f"{path} and {ours} gave {len(files)} files for one request")
    _, content = taken[OURS][0]
    whole = {
        path: Figure("ms", tuple(1e3 * seconds for seconds, _ in turns))
        for path, turns in taken.items()
    }
    encoded = Figure("ms", tuple(1e3 * _base64_seconds(content) for _ in taken[OURS]))
    added = {f"{path}: added": whole[path].minus(whole[ours]) for path, ours in AGAINST.items()}
    return {**whole, **added, f"base64 of {len(content)} bytes": encoded}


def _base64_seconds(content: bytes) -> float:
    """Seconds of a file's way through base64 and JSON, there and back."""
    began = time.perf_counter()
    text = json.dumps({"b64_json": base64.b64encode(content).decode("ascii")})
    base64.b64decode(json.loads(text)["b64_json"])
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
