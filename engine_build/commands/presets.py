"""`engine-build presets`: the presets that come with Calotype."""

import argparse

from engine_build.commands.arguments import describe
from engine_build.preset import preset_names, read_preset


def configure(parser: argparse.ArgumentParser) -> None:
    """Set the command's help; the command takes no flags."""
    describe(
        parser,
        "List the presets that `engine-build build --preset NAME` takes.",
        "engine-build presets",
    )


def run(_options: argparse.Namespace) -> None:
    """Print a line for each preset."""
    presets = {name: read_preset(name) for name in preset_names()}
    width = max(len(name) for name in presets)
    for name, preset in presets.items():
        print(f"{name:<{width}}  {preset.description} ({preset.licence}): {preset.source}")
