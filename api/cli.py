"""The `calotype` command: draw a picture, look at a model."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from api.request_flags import add_request_flags, body_from_flags
from runtime.backends.onnxruntime import OnnxRuntimeCpu
from runtime.errors import CalotypeError, RequestError
from runtime.generate import Generator, Latents
from runtime.model import open_model
from runtime.plan import Plan
from runtime.recipe import encode_picture

FAILURE = 1
WRONG_USE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong request."""
    arguments = _parser().parse_args(argv)
    try:
        run: Any = arguments.run
        run(arguments)
    except RequestError as error:
        for fault in error.faults:
            print(f"calotype: {fault}", file=sys.stderr)
        return WRONG_USE
    except CalotypeError as error:
        print(f"calotype: {error}", file=sys.stderr)
        return FAILURE
    except OSError as error:
        print(f"calotype: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print("calotype: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype", description="Text to image from compiled engines."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    generate = commands.add_parser(
        "generate",
        help="draw one picture",
        description="Draw one picture on this machine, without a server.",
        epilog='Example: calotype generate "a red heart on a blue background" -o heart.png',
    )
    _add_model_flags(generate)
    generate.add_argument("-o", "--output", type=Path, required=True, help="the picture's file")
    generate.add_argument(
        "--latents", type=Path, metavar="FILE.npy", help="also write the final latents [1, C, h, w]"
    )
    generate.add_argument(
        "--previews", type=Path, metavar="DIR", help="also write each step's preview here"
    )
    add_request_flags(generate)
    generate.set_defaults(run=_generate)

    info = commands.add_parser(
        "info",
        help="what a model takes",
        description="Print a model's facts and the JSON Schema of its requests.",
    )
    _add_model_flags(info)
    info.set_defaults(run=_info)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="the package's name (default: %(default)s)")
    parser.add_argument(
        "--engines",
        type=Path,
        default=Path("engines"),
        help="the directory of model packages (default: %(default)s)",
    )


def _generate(arguments: argparse.Namespace) -> None:
    model = open_model(arguments.engines, arguments.model)
    request = model.read(body_from_flags(arguments))
    plan = model.plan(request)
    _check_outputs(arguments)
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    latents = _draw(generator, plan, arguments.previews)
    picture = encode_picture(generator.decode(latents), request, model.name)
    if arguments.latents:
        np.save(arguments.latents, latents, allow_pickle=False)
    arguments.output.write_bytes(picture)
    print(f"{arguments.output} (seed {request.seed})")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Every place that will be written to, before the work is done."""
    for flag in ("output", "latents"):
        path: Path | None = getattr(arguments, flag)
        if path is not None and not path.absolute().parent.is_dir():
            detail = f"{path}: the folder {path.absolute().parent} is not there; make it first"
            raise RequestError(f"/{flag}", detail)
    if arguments.previews:
        arguments.previews.mkdir(parents=True, exist_ok=True)


def _draw(generator: Generator, plan: Plan, previews: Path | None) -> Latents:
    width, height = plan.request.width, plan.request.height
    with tqdm(total=plan.steps, unit="step", disable=None) as progress:
        for event in generator.steps(plan):
            progress.update()
            if previews and plan.wants_preview(event.step):
                jpeg = generator.previewer.jpeg(generator.predicted(event.sample), width, height)
                (previews / f"step_{event.step:03}.jpg").write_bytes(jpeg)
            if event.finished:
                return generator.latents(event.sample)
    raise AssertionError("a plan has at least one step")


def _info(arguments: argparse.Namespace) -> None:
    model = open_model(arguments.engines, arguments.model)
    manifest = model.package.manifest
    facts = {
        "model": {
            "name": manifest.name,
            "family": manifest.family,
            "source": manifest.source.reference,
            "description": manifest.description,
        },
        "parameters": model.parameters,
    }
    print(json.dumps(facts, indent=2))
