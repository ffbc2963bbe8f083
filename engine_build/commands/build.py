"""`engine-build build`: a checkpoint becomes a model package."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine_build.checkpoint.single_file.open import open_source
from engine_build.commands.arguments import (
    SOURCES,
    add_cache,
    add_engines,
    describe,
    fetching,
    package_name,
    positive,
    size,
)
from engine_build.fetch.ingredients import Order, fetch_ingredients
from engine_build.lora.fetched import fetch_lora
from engine_build.lora.packs import add_pack
from engine_build.package.publish import refuse_taken
from engine_build.preset import Preset, PresetDefaults, read_preset
from runtime.package.manifest import read_package
from runtime.plan.parameters import MAX_CFG_SCALE, MAX_STEPS
from runtime.plan.sampling.samplers import SAMPLERS

if TYPE_CHECKING:
    from engine_build.package.export.role import Choices

ValueT = TypeVar("ValueT")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "Build DIR/NAME from a checkpoint and check it against PyTorch.",
        "engine-build build --preset sdxl-base --name sdxl",
        "engine-build build ./stable-diffusion-xl-base-1.0 --name sdxl",
        "engine-build build ./flux1-dev.safetensors --preset flux-dev --name flux",
        more=SOURCES,
    )
    parser.set_defaults(refuse=parser.error)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="a diffusers folder or a single-file checkpoint (.safetensors): a path, a Hugging "
        "Face id, an AIR of Civitai, civitai:VERSION, or a URL; default: the preset's",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE.toml",
        help="take the source, its base, its defaults and its LoRAs from a preset; what SOURCE and "
        "other flags say wins. `engine-build presets` lists them",
    )
    parser.add_argument(
        "--base",
        metavar="SOURCE",
        help="of a single file: the diffusers folder that its configurations, tokenizers and "
        "scheduler come from, and the networks that the file does not hold, such as "
        "black-forest-labs/FLUX.1-dev; default: the preset's",
    )
    parser.add_argument(
        "--name",
        type=package_name,
        help="what requests will call the model; default: the preset's name",
    )
    add_engines(parser)
    parser.add_argument("--description", metavar="TEXT", help="a line for people")
    parser.add_argument(
        "--vocabulary",
        metavar="WORDS",
        default="",
        help="the things that the model can draw, with commas, where these are few; prompts that "
        "name none of them get a warning",
    )
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
    group.add_argument("--default-steps", type=_steps, metavar="N", help="default: the model's own")
    group.add_argument(
        "--default-cfg-scale", type=_cfg_scale, metavar="SCALE", help="default: the model's own"
    )
    group.add_argument(
        "--default-sampler",
        choices=sorted(SAMPLERS),
        metavar="SAMPLER",
        help="default: the model's own",
    )
    group.add_argument(
        "--default-negative-prompt", metavar="TEXT", help="default: none, where a model takes one"
    )
    group.add_argument(
        "--guidance-baked-in",
        action="store_true",
        help="of Chroma: the weights were distilled to need no guidance, as Chroma1-Flash's",
    )


def run(options: argparse.Namespace) -> None:
    """Build the package, add its LoRAs, and print its path."""
    preset = None if options.preset is None else read_preset(options.preset)
    name = options.name or _preset_name(options)
    if not options.replace:
        refuse_taken(options.engines, name)
    downloads = fetching(options)
    ingredients = fetch_ingredients(_order(options, preset), downloads)
    # Loading PyTorch takes seconds: nobody waits for it to hear of a path that is mistyped.
    open_source(ingredients.source, ingredients.base)
    loras = [fetch_lora(lora, downloads) for lora in (preset.loras if preset is not None else ())]
    from engine_build.package.build import BuildRequest, build_package

    build_package(
        BuildRequest(
            source=ingredients.source,
            name=name,
            engines=options.engines,
            vocabulary=tuple(filter(None, map(str.strip, options.vocabulary.split(",")))),
            description=_or(options.description, "" if preset is None else preset.description),
            replace=options.replace,
            preview_decoder=ingredients.preview_decoder,
            base=ingredients.base,
            origin=ingredients.origin,
            in_place=options.in_place,
            choices=_choices(options, preset),
        ),
        show_progress=not options.quiet,
    )
    package = read_package(options.engines, name)
    for lora in loras:
        add_pack(package, lora)
    print(package.path)


def _preset_name(options: argparse.Namespace) -> str:
    if options.preset is None:
        options.refuse("the following arguments are required: --name")
    try:
        return package_name(Path(options.preset).name.removesuffix(".toml"))
    except argparse.ArgumentTypeError as error:
        options.refuse(f"{error}; name the package with --name")
        raise


def _order(options: argparse.Namespace, preset: Preset | None) -> Order:
    if preset is None:
        if options.source is None:
            options.refuse("expected SOURCE or --preset")
        return Order(options.source, options.base, preview_decoder=options.preview_decoder)
    # A file in the place of the preset's folder needs that folder all the same.
    replaced = None if options.source is None else preset.source
    return Order(
        source=_or(options.source, preset.source),
        base=options.base,
        usual_base=_or(preset.base, replaced),
        preview_decoder=_or(options.preview_decoder, preset.preview_decoder),
    )


def _choices(options: argparse.Namespace, preset: Preset | None) -> "Choices":
    from engine_build.package.export.role import Choices

    defaults = preset.defaults if preset is not None else PresetDefaults()
    resolutions = preset.resolutions if preset is not None else ()
    if options.max_size is not None:
        resolutions = tuple(size for size in resolutions if max(size) <= options.max_size)
    width, height = options.default_size or (resolutions[0] if resolutions else (None, None))
    return Choices(
        max_size=options.max_size,
        width=width,
        height=height,
        steps=_or(options.default_steps, defaults.steps),
        cfg_scale=_or(options.default_cfg_scale, defaults.cfg_scale),
        sampler=_or(options.default_sampler, defaults.sampler),
        negative_prompt=_or(options.default_negative_prompt, defaults.negative_prompt),
        guidance_baked_in=options.guidance_baked_in
        or (preset is not None and preset.guidance_baked_in),
        resolutions=resolutions,
    )


def _or(flag: ValueT | None, otherwise: ValueT) -> ValueT:
    return otherwise if flag is None else flag


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
