"""Writes the small sheet of sprites that pictures are scored against."""

import argparse

from PIL import Image

from examples.demo_model.paths import ASSETS
from examples.demo_model.scoring import TEMPLATE_COLUMNS, TEMPLATE_SHEET, TEMPLATE_SIZE
from examples.demo_model.vocabulary import OBJECTS


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = -(-len(OBJECTS) // TEMPLATE_COLUMNS)
    sheet = Image.new("RGBA", (TEMPLATE_COLUMNS * TEMPLATE_SIZE, rows * TEMPLATE_SIZE))
    for index, file_name in enumerate(OBJECTS.values()):
        row, column = divmod(index, TEMPLATE_COLUMNS)
        with Image.open(ASSETS / f"{file_name}.webp") as picture:
            small = picture.convert("RGBa").resize(
                (TEMPLATE_SIZE, TEMPLATE_SIZE), Image.Resampling.LANCZOS
            )
        sheet.paste(small.convert("RGBA"), (column * TEMPLATE_SIZE, row * TEMPLATE_SIZE))
    sheet.save(TEMPLATE_SHEET, quality=85, method=6)
    print(f"{TEMPLATE_SHEET}: {TEMPLATE_SHEET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
