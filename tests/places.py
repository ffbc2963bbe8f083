"""Folders of the checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGINES = ROOT / "engines"
OPENVINO = ROOT / ".venv" / "openvino"
"""OpenVINO in a folder of its own: `auto` of other tests' servers finds none, and tries nothing."""
