"""`engine-build build`: a checkpoint becomes a model package."""

import argparse
import math

from engine_build.commands.arguments import (
    add_cache,
    add_engines,
    fetching,
    package_name,
    positive,
    size,
)
from engine_build.ingredients import Order, fetch_ingredients
from engine_build.publish import refuse_taken
from engine_build.single_file.open import open_source
from runtime.parameters import MAX_CFG_SCALE, MAX_STEPS
from runtime.sampling.samplers import SAMPLERS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Build DIR/NAME from a checkpoint and check it against PyTorch."
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a diffusers folder or a single-file checkpoint (.safetensors): a path, a Hugging "
        "Face id, an AIR of Civitai, civitai:VERSION, or a URL",
    )
    parser.add_argument(
        "--base",
        metavar="SOURCE",
        help="of a single file: the diffusers folder that its configurations, tokenizers and "
        "scheduler come from, and the networks that the file does not hold",
    )
    parser.add_argument(
        "--name", required=True, type=package_name, help="what requests will call the model"
    )
    add_engines(parser)
    parser.add_argument("--description", default="", metavar="TEXT", help="a line for people")
    parser.add_argument(
        "--preview-decoder",
        metavar="SOURCE",
        help="a small decoder for previews (diffusers' AutoencoderTiny, such as TAESDXL); "
        "default: SOURCE/preview_decoder if it is there, else a matrix fitted to the VAE",
    )
    parser.add_argument(
        "--replace", action="store_true", help="build anew a package that is already there"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="leave the weights where they are: the package takes next to no room, depends on them "
        "and takes no LoRA",
    )
    add_cache(parser)
    _add_choices(parser.add_argument_group("limits and defaults, written into the package"))


def _add_choices(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--max-size",
        type=positive,
        metavar="PIXELS",
        help="the longest side of a picture; default: 2048 for models of 1024 pixels and more",
    )
    group.add_argument(
        "--default-size", type=size, metavar="WIDTHxHEIGHT", help="default: the model's own"
    )
    group.add_argument("--default-steps", type=_steps, metavar="N", help="default: 20")
    group.add_argument("--default-cfg-scale", type=_cfg_scale, metavar="SCALE", help="default: 7")
    group.add_argument(
        "--default-sampler", choices=sorted(SAMPLERS), metavar="SAMPLER", help="default: euler_a"
    )


def run(options: argparse.Namespace) -> None:
    """Build it and print its path."""
    if not options.replace:
        refuse_taken(options.engines, options.name)
    order = Order(options.source, options.base, preview_decoder=options.preview_decoder)
    ingredients = fetch_ingredients(order, fetching(options))
    # Loading PyTorch takes seconds: nobody waits for it to hear of a path that is mistyped.
    open_source(ingredients.source, ingredients.base)
    from engine_build.build import BuildRequest, build_package
    from engine_build.export.role import Choices

    width, height = options.default_size or (None, None)
    path = build_package(
        BuildRequest(
            source=ingredients.source,
            name=options.name,
            engines=options.engines,
            description=options.description,
            replace=options.replace,
            preview_decoder=ingredients.preview_decoder,
            base=ingredients.base,
            origin=ingredients.origin,
            in_place=options.in_place,
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


def _steps(text: str) -> int:
    steps = positive(text)
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
