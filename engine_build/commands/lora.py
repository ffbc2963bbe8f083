"""`engine-build lora`: the LoRA packs of a model, which a running server sees come and go."""

import argparse
import math
import sys
from pathlib import Path

from engine_build.commands.arguments import add_engines, package_name
from runtime.lora.pack import LoraPack
from runtime.lora.shelf import LoraShelf

_SHOWN = 10
"""Layers that are not covered are listed in full in pack.json."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the commands below this one, with their flags."""
    parser.description = "Add, list and remove the LoRA packs of a model, also while it is served."
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a pack of a LoRA file")
    add.add_argument("reference", metavar="REF", help="the LoRA: a .safetensors file")
    add.add_argument("--id", type=package_name, help="what requests call it; default: the file's")
    add.add_argument("--trigger", metavar="WORDS", help="the words that call up what it learned")
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
    listing = actions.add_parser("list", help="list a model's packs")
    remove = actions.add_parser("remove", help="remove a pack")
    remove.add_argument("id", metavar="ID", help="the pack's id")
    for action in (add, listing, remove):
        action.add_argument(
            "--model", required=True, type=package_name, metavar="NAME", help="the model package"
        )
        add_engines(action)


def run(options: argparse.Namespace) -> None:
    """Do what was asked for."""
    {"add": _add, "list": _list, "remove": _remove}[options.action](options)


def _add(options: argparse.Namespace) -> None:
    from engine_build.lora.packs import LoraRequest, add_pack, open_listed

    package = open_listed(options.engines, options.model)
    request = LoraRequest(
        path=Path(options.reference),
        reference=Path(options.reference).name,
        id=options.id,
        triggers=options.trigger,
        weight=options.weight,
        trigger_weight=options.trigger_weight,
    )
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


def _list(options: argparse.Namespace) -> None:
    from engine_build.lora.packs import open_listed

    for pack in LoraShelf(open_listed(options.engines, options.model)).packs():
        print(_line(pack))


def _remove(options: argparse.Namespace) -> None:
    from engine_build.lora.packs import open_listed, remove_pack

    remove_pack(open_listed(options.engines, options.model), options.id)
    print(f"{options.id} removed from {options.model}")


def _line(pack: LoraPack) -> str:
    record = pack.record
    kinds = ", ".join(sorted({target.kind for target in record.targets}))
    triggers = f"; triggers: {record.triggers}" if record.triggers else ""
    return (
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
