"""The `engine-build` command: makes, lists, describes and compiles model packages."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from engine_build.commands.arguments import SOURCES, describe
from runtime.errors import CalotypeError, in_one_line
from runtime.telemetry import disable_telemetry
from runtime.version import ShowVersion

COMMANDS = {
    "build": "build a model package",
    "list": "list the model packages",
    "inspect": "say what is in a model package or a target of it, and check it",
    "compile": "compile a package into engines for a GPU",
    "targets": "list what a package was compiled for",
    "verify": "check a compiled target on the GPU that it is for",
    "presets": "list the presets of published models",
    "lora": "add, list and remove the LoRA packs of a model",
    "embedding": "add, list and remove the embeddings (textual inversions) of a model",
}

FAILED = 1

BUILD_LIBRARIES = frozenset(
    {
        "accelerate",
        "diffusers",
        "filelock",
        "httpx2",
        "huggingface_hub",
        "onnx",
        "onnxscript",
        "polygraphy",
        "torch",
        "transformers",
    }
)
"""The modules of the `build` extra, which a serving environment does without."""

_INSTALL = 'pip install -c constraints.txt -e ".[build]"'
_INSTALL_WHEEL = 'pip install "WHEEL[build]", where WHEEL is the file that calotype came from'

_EXAMPLES = (
    "engine-build build --preset sdxl-base --name sdxl --engines engines",
    "engine-build build ./stable-diffusion-xl-base-1.0 --name sdxl --engines engines",
    "engine-build build ./flux1-dev.safetensors --preset flux-dev --name flux --engines engines",
    "engine-build list --engines engines",
    "engine-build inspect sdxl --engines engines",
    "engine-build compile sdxl --gpu auto --sizes 1024x1024 --engines engines",
    'calotype generate "a red fox in the snow" -o fox.png --model sdxl --engines engines',
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: ends the process with 0, 1 for a failure, or 2 for a wrong command line."""
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    disable_telemetry()
    try:
        options = _parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
        options.run(options)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in BUILD_LIBRARIES:
            raise
        remedy = install_line(Path(__file__).parents[1])
        return _fail(f"{error.name} is not installed; this needs the build stage: {remedy}")
    except CalotypeError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'disk'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left behind")
    return 0


def install_line(root: Path) -> str:
    """The line that installs the build stage; `root` is the folder above the code."""
    return _INSTALL if (root / "constraints.txt").is_file() else _INSTALL_WHEEL


def _fail(message: str) -> int:
    print(f"engine-build: {in_one_line(message)}", file=sys.stderr)
    return FAILED


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="engine-build")
    describe(
        parser,
        "Turn a text-to-image checkpoint into a model package that Calotype serves.",
        *_EXAMPLES,
        more=SOURCES,
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        # Only the command that was asked for is imported: a list needs no library of a build.
        if name in arguments[:1]:
            module = importlib.import_module(f"engine_build.commands.{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser
