"""The `engine-build` command: makes model packages, lists them, and says what is in one."""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from engine_build.report import describe, table
from engine_build.sources import open_folder
from runtime.errors import CalotypeError
from runtime.parameters import MAX_CFG_SCALE, MAX_STEPS
from runtime.sampling.samplers import SAMPLERS

FAILED = 1

_EXAMPLE = """\
example:
  engine-build build ./stable-diffusion-xl-base-1.0 --name sdxl --engines engines
  engine-build list --engines engines
  engine-build inspect sdxl --engines engines
  calotype generate "a red fox in the snow" -o fox.png --model sdxl --engines engines

A source is a folder that diffusers saved: it holds model_index.json, unet/, vae/, text_encoder/,
text_encoder_2/, tokenizer/, tokenizer_2/ and scheduler/, with weights as .safetensors files.
A build of SDXL takes some minutes, 16 GB of memory and as much disk as the source.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: ends the process with 0, 1 for a failure, or 2 for a wrong command line."""
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except CalotypeError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'disk'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left behind")
    return code


def _fail(message: str) -> int:
    print(f"engine-build: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


def _build(options: argparse.Namespace) -> int:
    # Loading PyTorch takes seconds: nobody waits for it to hear of a path that is mistyped.
    open_folder(options.source)
    from engine_build.build import BuildRequest, build_package
    from engine_build.export.role import Choices

    width, height = options.default_size or (None, None)
    path = build_package(
        BuildRequest(
            source=options.source,
            name=options.name,
            engines=options.engines,
            description=options.description,
            replace=options.replace,
            preview_decoder=options.preview_decoder,
            choices=Choices(
                max_size=options.max_size,
                width=width,
                height=height,
                steps=options.default_steps,
                cfg_scale=options.default_cfg_scale,
                sampler=options.default_sampler,
            ),
        ),
        show_progress=not options.quiet,
    )
    print(path)
    return 0


def _list(options: argparse.Namespace) -> int:
    print(table(options.engines))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    print(describe(options.engines, options.name))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="engine-build",
        description="Turn a text-to-image checkpoint into a model package that Calotype serves.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_build(commands)
    listing = commands.add_parser("list", help="list the model packages")
    _add_engines(listing)
    listing.set_defaults(command=_list)
    inspect = commands.add_parser("inspect", help="say what is in a model package, and check it")
    inspect.add_argument("name", metavar="NAME", type=_name, help="the package's name")
    _add_engines(inspect)
    inspect.set_defaults(command=_inspect)
    return parser


def _add_build(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    build = commands.add_parser(
        "build",
        help="build a model package",
        description="Build DIR/NAME from a diffusers folder and check it against PyTorch.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("source", metavar="SOURCE", type=Path, help="the diffusers folder")
    build.add_argument(
        "--name", required=True, type=_name, help="what requests will call the model"
    )
    _add_engines(build)
    build.add_argument("--description", default="", metavar="TEXT", help="a line for people")
    build.add_argument(
        "--preview-decoder",
        type=Path,
        metavar="DIR",
        help="a small decoder for previews (diffusers' AutoencoderTiny, such as TAESDXL); "
        "default: SOURCE/preview_decoder if it is there, else a matrix fitted to the VAE",
    )
    build.add_argument(
        "--replace", action="store_true", help="build anew a package that is already there"
    )
    build.add_argument("--quiet", action="store_true", help="show no progress")
    limits = build.add_argument_group("limits and defaults, written into the package")
    limits.add_argument(
        "--max-size",
        type=_positive,
        metavar="PIXELS",
        help="the longest side of a picture; default: 2048 for models of 1024 pixels and more",
    )
    limits.add_argument(
        "--default-size", type=_size, metavar="WIDTHxHEIGHT", help="default: the model's own"
    )
    limits.add_argument("--default-steps", type=_steps, metavar="N", help="default: 20")
    limits.add_argument("--default-cfg-scale", type=_cfg_scale, metavar="SCALE", help="default: 7")
    limits.add_argument(
        "--default-sampler", choices=sorted(SAMPLERS), metavar="SAMPLER", help="default: euler_a"
    )
    build.set_defaults(command=_build)


def _add_engines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines",
        type=Path,
        default=Path("engines"),
        metavar="DIR",
        help="the folder of model packages; default: engines",
    )


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a package: 1 to 64 letters, digits, dots, dashes or "
            "underscores, the first a letter or digit"
        )
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _steps(text: str) -> int:
    steps = _positive(text)
    if steps > MAX_STEPS:
        raise argparse.ArgumentTypeError(f"{steps} steps, expected 1 to {MAX_STEPS}")
    return steps


def _cfg_scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 1 <= scale <= MAX_CFG_SCALE:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MAX_CFG_SCALE}")
    return scale


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1024x1024")
    return _positive(width), _positive(height)
