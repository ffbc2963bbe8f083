"""Folders of the recipe's data and results."""

from pathlib import Path

WORK = Path(__file__).parent / "workspace"
ASSETS = WORK / "emoji" / "package" / "assets"
EMOJI_WORDS = WORK / "words" / "package" / "dist" / "emoji-en-US.json"
POOL = WORK / "pool"
LORAS = WORK / "lora"
