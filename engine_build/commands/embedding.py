"""`engine-build embedding`: a model's textual inversions, also while the model is served."""

import argparse
from pathlib import Path

from engine_build.commands.arguments import add_engines, describe, package_name
from runtime.package.inversion import Inversion
from runtime.package.manifest import read_package
from runtime.package.shelf import InversionShelf


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands, with their flags."""
    describe(
        parser,
        "Add, list and remove the embeddings (textual inversions) of a model, also while it is "
        "served. A prompt uses one by its name, or as embedding:NAME.",
        "engine-build embedding add ./ink_style.safetensors --model sdxl",
        "engine-build embedding list --model sdxl",
        "engine-build embedding remove ink_style --model sdxl",
    )
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add an embedding")
    describe(
        add,
        "Put an embedding into a model; a running server sees it at once.",
        "engine-build embedding add ./ink_style.safetensors --model sdxl --id ink",
    )
    add.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file")
    add.add_argument(
        "--id",
        type=package_name,
        metavar="TOKEN",
        help="the word that prompts call it by; default: the file's name",
    )
    listing = actions.add_parser("list", help="list a model's embeddings")
    describe(
        listing,
        "List a model's embeddings, a line each.",
        "engine-build embedding list --model sdxl",
    )
    remove = actions.add_parser("remove", help="remove an embedding")
    describe(
        remove, "Remove an embedding of a model.", "engine-build embedding remove ink --model sdxl"
    )
    remove.add_argument("id", metavar="TOKEN", help="the embedding's word")
    for action in (add, listing, remove):
        action.add_argument(
            "--model", required=True, type=package_name, metavar="NAME", help="the model package"
        )
        add_engines(action)


def run(options: argparse.Namespace) -> None:
    """Run the action."""
    actions = {"add": _add, "list": _list, "remove": _remove}
    actions[options.action](options)


def _add(options: argparse.Namespace) -> None:
    from engine_build.embedding.packs import add_embedding

    package = read_package(options.engines, options.model)
    print(_line(add_embedding(package, options.file, options.id)))


def _list(options: argparse.Namespace) -> None:
    for inversion in InversionShelf(read_package(options.engines, options.model)).inversions():
        print(_line(inversion))


def _remove(options: argparse.Namespace) -> None:
    from engine_build.embedding.packs import remove_embedding

    remove_embedding(read_package(options.engines, options.model), options.id)
    print(f"{options.id} removed from {options.model}")


def _line(inversion: Inversion) -> str:
    count = "1 vector" if inversion.vectors == 1 else f"{inversion.vectors} vectors"
    return f"{inversion.name}: {count}, in a prompt {inversion.name} or embedding:{inversion.name}"
