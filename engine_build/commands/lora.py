"""`engine-build lora`: the LoRA packs of a model, which a running server sees come and go."""

import argparse
import math
import sys

from engine_build.commands.arguments import add_cache, add_engines, describe, fetching, package_name
from runtime.errors import in_one_line
from runtime.package.manifest import read_package
from runtime.package.pack import LoraPack
from runtime.package.shelf import LoraShelf

_SHOWN = 10
"""The most uncovered layers that `add` names; pack.json lists all of them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands, with their flags."""
    describe(
        parser,
        "Add, list and remove the LoRA packs of a model, also while it is served.",
        "engine-build lora add ./ink.safetensors --model sdxl --weight 0.8",
        "engine-build lora list --model sdxl",
        "engine-build lora remove ink --model sdxl",
    )
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a pack of a LoRA file")
    describe(
        add,
        "Make a pack of a LoRA file and put it into a model; a running server sees it at once.",
        "engine-build lora add ./ink.safetensors --model sdxl --weight 0.8",
        "engine-build lora add civitai:VERSION --model sdxl",
    )
    add.add_argument(
        "reference",
        metavar="REF",
        help="the LoRA: a .safetensors file, a Hugging Face path, an AIR of Civitai, "
        "civitai:VERSION, or a URL",
    )
    add.add_argument(
        "--id",
        type=package_name,
        help="what requests call it; default: civitai_VERSION, or the file's name",
    )
    add.add_argument(
        "--trigger",
        metavar="WORDS",
        help="the words that call up what it learned; default: what Civitai or the file says",
    )
    add.add_argument(
        "--weight", type=_weight, default=1.0, help="its default weight, -2 to 2; default: 1"
    )
    add.add_argument(
        "--trigger-weight",
        type=_trigger_weight,
        default=0.5,
        metavar="WEIGHT",
        help="the default emphasis of its trigger words, 0 to 2; default: 0.5",
    )
    prepare = actions.add_parser("prepare", help="write the graphs that LoRAs are drawn with")
    describe(
        prepare,
        "Write the graphs that LoRAs are drawn with on the CPU. `lora add` does so by itself: this "
        "is for a model whose LoRAs were added by an older version.",
        "engine-build lora prepare --model sdxl",
    )
    listing = actions.add_parser("list", help="list a model's packs")
    describe(listing, "List a model's packs, a line each.", "engine-build lora list --model sdxl")
    remove = actions.add_parser("remove", help="remove a pack")
    describe(remove, "Remove a pack of a model.", "engine-build lora remove ink --model sdxl")
    remove.add_argument("id", metavar="ID", help="the pack's id")
    add_cache(add)
    for action in (add, prepare, listing, remove):
        action.add_argument(
            "--model", required=True, type=package_name, metavar="NAME", help="the model package"
        )
        add_engines(action)


def run(options: argparse.Namespace) -> None:
    """Run the action."""
    actions = {"add": _add, "prepare": _prepare, "list": _list, "remove": _remove}
    actions[options.action](options)


def _add(options: argparse.Namespace) -> None:
    from engine_build.lora.fetched import fetch_lora
    from engine_build.lora.packs import add_pack
    from engine_build.preset import PresetLora

    package = read_package(options.engines, options.model)
    lora = PresetLora(
        reference=options.reference,
        id=options.id,
        trigger=options.trigger,
        weight=options.weight,
        trigger_weight=options.trigger_weight,
    )
    request = fetch_lora(lora, fetching(options))
    pack = add_pack(package, request)
    missing = pack.record.not_covered
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        print(
            f"engine-build: {len(missing)} of the file's layers are not in {options.model} and "
            f"have no effect: {', '.join(missing[:_SHOWN])}{more}",
            file=sys.stderr,
        )
    print(_line(pack))


def _prepare(options: argparse.Namespace) -> None:
    from engine_build.lora.graphs import prepare

    written = prepare(read_package(options.engines, options.model))
    print(f"{options.model}: {'graphs written' if written else 'its graphs are there already'}")


def _list(options: argparse.Namespace) -> None:
    for pack in LoraShelf(read_package(options.engines, options.model)).packs():
        print(_line(pack))


def _remove(options: argparse.Namespace) -> None:
    from engine_build.lora.packs import remove_pack

    remove_pack(read_package(options.engines, options.model), options.id)
    print(f"{options.id} removed from {options.model}")


def _line(pack: LoraPack) -> str:
    record = pack.record
    kinds = ", ".join(sorted({target.form for target in record.targets}))
    triggers = f"; triggers: {record.triggers}" if record.triggers else ""
    return in_one_line(
        f"{record.id}: {record.name}, {kinds} on {len(record.targets)} layers of "
        f"{', '.join(sorted(record.roles))}, weight {record.weight:g}{triggers}"
    )


def _weight(text: str) -> float:
    return _between(text, -2.0, 2.0)


def _trigger_weight(text: str) -> float:
    return _between(text, 0.0, 2.0)


def _between(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
    return value
