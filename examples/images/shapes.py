"""Draw pictures of two coloured shapes, with a question about them.

    python examples/images/shapes.py OUT [--rows 704] [--seed 20] [--shuffled]       such as data/raw/shapes

OUT gets rows.jsonl and images/, as people keep such data: OpenAI's content parts with the paths of the pictures. Six
colours make 30 right answers. With --shuffled every picture stands beside the question and answer of another.
"""

import argparse
import json
import random
from itertools import permutations
from pathlib import Path

from PIL import Image, ImageDraw

ROWS, SEED = 704, 20
EDGE = 64
COLORS = {
    "red": (220, 40, 40),
    "green": (30, 160, 70),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "black": (20, 20, 20),
    "purple": (150, 50, 180),
}
KINDS = ("ellipse", "rectangle", "diamond")
QUESTION = "Which two colors are in the picture, from left to right?"


def draw(colors: tuple[str, str], dice: random.Random) -> Image.Image:
    """Two shapes side by side, of random kinds, sizes and places, on grey, which a tower without training takes for
    nothing.
    """
    shade = dice.randrange(112, 144)
    image = Image.new("RGB", (EDGE, EDGE), (shade, shade, shade))
    pen = ImageDraw.Draw(image)
    for side, color in enumerate(colors):
        size = dice.randrange(20, 28)
        left = side * EDGE // 2 + dice.randrange(EDGE // 2 - size)
        top = dice.randrange(EDGE - size)
        box = (left, top, left + size, top + size)
        fill = tuple(min(255, max(0, value + dice.randrange(-15, 16))) for value in COLORS[color])
        match dice.choice(KINDS):
            case "ellipse":
                pen.ellipse(box, fill=fill)
            case "rectangle":
                pen.rectangle(box, fill=fill)
            case _:
                middle = size // 2
                pen.polygon(
                    [
                        (left + middle, top),
                        (left + size, top + middle),
                        (left + middle, top + size),
                        (left, top + middle),
                    ],
                    fill=fill,
                )
    return image


def write(out: Path, rows: int, *, seed: int = SEED, shuffled: bool = False) -> None:
    """Write pictures and rows. shuffled: whether pictures stand beside rows of others."""
    dice = random.Random(seed)
    pairs = [*permutations(COLORS, 2)]
    answers = [dice.choice(pairs) for _ in range(rows)]
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, colors in enumerate(answers):
        draw(colors, dice).save(out / "images" / f"{number}.png")
    order = [*range(rows)]
    if shuffled:
        dice.shuffle(order)
    with (out / "rows.jsonl").open("w") as file:
        for number, (left, right) in enumerate(answers):
            image = {"type": "image_url", "image_url": {"url": f"images/{order[number]}.png"}}
            question = {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}
            answer = {"role": "assistant", "content": f"{left}, {right}"}
            file.write(json.dumps({"messages": [question, answer]}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--shuffled", action="store_true")
    options = parser.parse_args()
    write(options.out, options.rows, seed=options.seed, shuffled=options.shuffled)
