"""`calotype generate`: draw one picture on this machine, without a server."""

import argparse
import sys
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from api.commands.model_flags import add_model_flags
from api.request_flags import add_request_flags, body_from_flags
from api.settings import Settings, read_settings, variable
from runtime.backends.catalog import choose, open_backend
from runtime.backends.devices import find_devices
from runtime.backends.opened_files import opened_files
from runtime.backends.wishes import WISHES, CpuPrecision
from runtime.draw.cpu_trial import try_cpu
from runtime.draw.decode_room import decode_room
from runtime.draw.generate import Generator, Latents
from runtime.draw.infotext import infotext
from runtime.draw.recipe import encode_picture
from runtime.draw.soundness import blackness, check_finite
from runtime.errors import RequestError
from runtime.files import read_ahead, write_whole
from runtime.plan.call_room import call_room
from runtime.plan.model import open_model
from runtime.plan.plan import Plan
from runtime.plan.served import served_by

_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Draw one picture on this machine, without a server."
    parser.epilog = (
        'Example: calotype generate "a red heart on a blue background" -o heart.png --seed 1'
    )
    add_model_flags(parser)
    parser.add_argument(
        "--backend",
        choices=WISHES,
        help=f"what draws ({variable('backend')}; default: auto, the best that can run)",
    )
    parser.add_argument(
        "--cpu-precision",
        choices=get_args(CpuPrecision),
        help=f"of the denoiser's steps on the CPU ({variable('cpu_precision')}; default: fp32); "
        "bf16 needs the openvino extra",
    )
    parser.add_argument(
        "--vae-tile",
        metavar="TILE",
        help="auto, off, or pixels: how the finished picture is decoded "
        f"({variable('vae_tile')}; default: auto, whole where memory allows, else in tiles)",
    )
    parser.add_argument(
        "--draw-memory-mb",
        metavar="MB",
        help="the most memory that drawing takes beside the model "
        f"({variable('draw_memory_mb')}; default: four fifths of what is available)",
    )
    parser.add_argument(
        "--verify-files",
        action="store_true",
        help="read and hash every file anew, also those whose hash is known "
        f"({variable('verify_files')})",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="the picture's file; its ending is its format",
    )
    parser.add_argument(
        "--latents", type=Path, metavar="FILE.npy", help="also write the final latents [1, C, h, w]"
    )
    parser.add_argument(
        "--previews", type=Path, metavar="DIR", help="also write each step's preview here"
    )
    add_request_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    options = settings.draw
    model = open_model(arguments.engines, arguments.model, anew=settings.verify_files)
    request = model.read(_body(arguments))
    plan = model.plan(request)
    _check_outputs(arguments)
    for warning in model.warnings(request.to_json()):
        print(f"calotype: {warning}", file=sys.stderr)
    devices = find_devices()
    try_cpu(model, options.backend, devices, options.cpu_precision, _tell)
    choice = choose(model.package, options.backend, devices, options.cpu_precision)
    print(choice.note, file=sys.stderr)
    read_ahead(opened_files(model.package, choice.target))
    served = served_by(choice.target, model.package.manifest)
    served.check(plan)
    backend = open_backend(
        model.package, choice, captures=options.captures, text_encoders=options.text_encoders
    )
    if backend.placing.note:
        print(backend.placing.note, file=sys.stderr)
    room = decode_room(choice.target, model.package.manifest)
    needs = call_room(choice.target, model.package.manifest)
    generator = Generator(model, backend, options, served, room=room, needs=needs)
    latents = _draw(generator, plan, arguments.previews)
    text = infotext(plan, model.manifest, model.facts)
    check_finite(latents)
    pixels = generator.decode(latents)
    picture = encode_picture(pixels, request, text)
    for warning in filter(None, (generator.tiled(request), picture.warning, blackness(pixels))):
        print(f"calotype: {warning}", file=sys.stderr)
    if arguments.latents:
        np.save(arguments.latents, latents, allow_pickle=False)
    _write(arguments.output, picture.content)
    print(f"{arguments.output} (seed {request.seed})")


def _body(arguments: argparse.Namespace) -> object:
    """The request's body, its model that of the flag, its format that of the picture's ending.
    Raises RequestError.
    """
    body, path = body_from_flags(arguments), arguments.output
    if isinstance(body, dict):
        body["model"] = arguments.model
    if not path.suffix or not isinstance(body, dict):
        return body
    wanted = _FORMATS.get(path.suffix.lower())
    if wanted is None:
        raise RequestError("/output", f"{path}: no picture's ending; {', '.join(_FORMATS)} are")
    given = arguments.output_format or wanted
    if given != wanted:
        detail = f"{path}: its ending stands for {wanted}, and {given} was asked for"
        raise RequestError("/output", detail)
    # In place: the body knows which of its names stood twice.
    body["output_format"] = wanted
    return body


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _settings(arguments: argparse.Namespace) -> Settings:
    """The settings that the command's flags and the environment make. Raises SettingsError."""
    names = ("backend", "cpu_precision", "vae_tile", "draw_memory_mb")
    given = {name: getattr(arguments, name) for name in names}
    flags = {name: value for name, value in given.items() if value}
    return read_settings({**flags, **({"verify_files": "true"} if arguments.verify_files else {})})


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Check every place to write to before the work is done. Raises RequestError."""
    for flag in ("output", "latents"):
        path: Path | None = getattr(arguments, flag)
        if path is not None and not path.absolute().parent.is_dir():
            detail = f"{path}: the folder {path.absolute().parent} is not there; make it first"
            raise RequestError(f"/{flag}", detail)
    if arguments.previews:
        arguments.previews.mkdir(parents=True, exist_ok=True)


def _write(path: Path, picture: bytes) -> None:
    # A file that is there keeps its mode and its links; a device, such as /dev/stdout, is no file.
    if path.exists() or path.is_symlink():
        path.write_bytes(picture)
    else:
        write_whole(path, picture)


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
