"""`calotype info`: a model's facts and the JSON Schema of its requests."""

import argparse
import json

from api.commands.model_flags import add_model_flags
from runtime.plan.model import open_model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Print a model's facts and the JSON Schema of its requests."
    add_model_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print facts and schema as JSON."""
    model = open_model(arguments.engines, arguments.model)
    manifest = model.package.manifest
    facts = {
        "model": {
            "name": manifest.name,
            "family": manifest.family,
            "source": manifest.source.reference,
            "description": manifest.description,
        },
        "parameters": model.parameters(model.loras()),
    }
    print(json.dumps(facts, indent=2))
