"""Requests of the guide; the documentation shows those that the loaded model takes."""

from collections.abc import Callable, Mapping
from typing import Any

from runtime.errors import RequestError

GUIDE: Mapping[str, Mapping[str, Any]] = {
    "An illustration, in tags": {
        "prompt": (
            "masterpiece, best quality, 1girl, solo, long blonde hair, blue eyes, white dress, "
            "flower garden, soft lighting"
        ),
        "negative_prompt": "worst quality, low quality, blurry, bad anatomy, bad hands, watermark",
        "width": 1024,
        "height": 1024,
        "seed": 42,
        "loras": [],
    },
    "With a LoRA": {
        "prompt": "masterpiece, best quality, 1girl, portrait, looking at viewer",
        "negative_prompt": "worst quality, low quality",
        "loras": [{"id": "civitai_1963644", "weight": 0.8, "trigger_weight": 0.5}],
    },
    "A cat, in plain words": {
        "prompt": "a fluffy orange cat sleeping on a sunny windowsill, soft natural light",
        "width": 1024,
        "height": 1024,
    },
    "A landscape, in plain words": {
        "prompt": "A photorealistic landscape of snow-capped mountains",
        "width": 1024,
        "height": 1024,
    },
    "A scene, in plain words": {
        "prompt": "A vintage coffee shop interior with warm lighting",
        "width": 1024,
        "height": 1024,
    },
    "The prompt alone": {"prompt": "a red apple on a wooden table, soft light"},
}


def examples_for(check: Callable[[Mapping[str, Any]], object]) -> dict[str, dict[str, Any]]:
    """Example Objects of OpenAPI, by title: the requests that `check` lets pass; it raises
    RequestError for others.
    """
    return {title: {"value": dict(body)} for title, body in GUIDE.items() if _passes(body, check)}


def _passes(body: Mapping[str, Any], check: Callable[[Mapping[str, Any]], object]) -> bool:
    try:
        check(body)
    except RequestError:
        return False
    return True
