"""Draws the README's images with a running server.

    make serve &
    .venv/bin/python scripts/draw_readme.py --server http://localhost:8000

The images are a grid of pictures with their prompts, a filmstrip of previews, and one picture at
several weights of a LoRA.
"""

import argparse
import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

PROMPTS = (
    "a red heart on a blue background",
    "a green car on a yellow background",
    "a cat on a pink background",
    "a small rocket on a black background",
    "a frog on a purple background",
    "a house on a cyan background",
    "a tree on a white background",
    "a purple star on a black background",
    "a blue apple and an orange cat on a gray background",
    "a penguin on an orange background",
    "a cat and an apple on a white background",
    "a yellow circle on a red background",
)
FILMSTRIP_PROMPT = "a frog on a purple background"
FILMSTRIP_FRAMES = 8
LORA = "monochrome"
LORA_PROMPT = "a green car on a yellow background"
LORA_WEIGHTS = (0, 0.25, 0.5, 0.75, 1)
COLUMNS = 4
TILE = 192
CAPTION = 36
MARGIN = 8


def main() -> None:
    """Draw and write all images of the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", default="http://localhost:8000", help="where Calotype is")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="the folder")
    parser.add_argument("--seed", type=int, default=1, help="the seed of every picture")
    arguments = parser.parse_args()
    server: str = arguments.server.rstrip("/")
    arguments.output.mkdir(parents=True, exist_ok=True)
    tiles = [
        captioned(picture(server, {"prompt": prompt, "seed": arguments.seed}), prompt)
        for prompt in tqdm(PROMPTS, unit="picture")
    ]
    arranged(tiles, COLUMNS).save(arguments.output / "grid.png", optimize=True)
    frames = previews(server, {"prompt": FILMSTRIP_PROMPT, "seed": arguments.seed})
    chosen = [
        frames[round(index * (len(frames) - 1) / (FILMSTRIP_FRAMES - 1))]
        for index in range(FILMSTRIP_FRAMES)
    ]
    strip = [captioned(frame, f"step {step}") for step, frame in chosen]
    arranged(strip, FILMSTRIP_FRAMES).save(arguments.output / "filmstrip.png", optimize=True)
    row = lora_row(server, arguments.seed)
    arranged(row, len(row)).save(arguments.output / "lora.png", optimize=True)


def lora_row(server: str, seed: int) -> list[Image.Image]:
    """The same picture, captioned, at every weight of the LoRA."""
    body = {"prompt": LORA_PROMPT, "seed": seed}
    return [
        captioned(
            picture(server, {**body, "loras": [{"id": LORA, "weight": weight}]}),
            f"{LORA} at {weight:g}",
        )
        for weight in LORA_WEIGHTS
    ]


def picture(server: str, body: dict[str, Any]) -> Image.Image:
    """Submit a request, wait for its picture and fetch the picture."""
    with call(server + "/api/generate", body, {"Prefer": "wait=60"}) as answer:
        job = json.load(answer)
    with call(server + job["image"]["url"]) as answer:
        return Image.open(BytesIO(answer.read())).convert("RGB")


def previews(server: str, body: dict[str, Any]) -> list[tuple[int, Image.Image]]:
    """Submit a request; its previews as pairs of step and image, in the order of the steps."""
    with call(server + "/api/generate", body) as answer:
        job = json.load(answer)
    frames = {}
    for event in events(server + job["events_url"]):
        if event.get("preview"):
            jpeg = base64.b64decode(event["preview"].partition(",")[2])
            frames[event["step"]] = Image.open(BytesIO(jpeg)).convert("RGB")
    return sorted(frames.items())


def events(url: str) -> Iterator[dict[str, Any]]:
    """Events of a server-sent event stream, parsed, until the stream closes."""
    with call(url) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                yield json.loads(line[5:])


def call(
    url: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Any:
    """Send a request to the server: POST with a body, GET without. Returns the open response."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return urlopen(Request(url, data, sent), timeout=120)


def captioned(image: Image.Image, caption: str) -> Image.Image:
    """Picture scaled to a tile, with its caption below on white."""
    tile = Image.new("RGB", (TILE, TILE + CAPTION), "white")
    tile.paste(image.resize((TILE, TILE), Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(size=12)
    draw.multiline_text((2, TILE + 3), wrapped(caption, font), fill="black", font=font)
    return tile


def wrapped(text: str, font: Any) -> str:
    """Text broken into lines that fit the width of a tile."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= TILE - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def arranged(tiles: list[Image.Image], columns: int) -> Image.Image:
    """One image with the tiles in rows, on white."""
    width, height = tiles[0].width + MARGIN, tiles[0].height + MARGIN
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width - MARGIN, rows * height - MARGIN), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


if __name__ == "__main__":
    main()
