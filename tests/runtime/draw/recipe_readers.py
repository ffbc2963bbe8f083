"""Other tools' readers of a picture's recipe, written from their published rules.

AUTOMATIC1111's web UI (modules/images.py, infotext_utils.py, prompt_parser.py, sd_schedulers.py,
extra_networks.py), Civitai (src/utils/metadata/automatic.metadata.ts), ComfyUI's frontend
(`importA1111`). Nothing of Calotype is used here.
"""

import json
import re
from pathlib import Path

import numpy as np
import piexif
import piexif.helper
from numpy.typing import NDArray
from PIL import Image

Weighted = list[tuple[str, float]]
BREAK = ("BREAK", -1.0)


def web_ui_text(path: Path) -> str:
    """The text that the web UI finds in a picture: a text chunk, or EXIF's user comment."""
    with Image.open(path) as image:
        image.load()
        items = dict(image.info)
    if "exif" not in items:
        return str(items["parameters"])
    comment = piexif.load(items["exif"])["Exif"][piexif.ExifIFD.UserComment]
    assert isinstance(comment, bytes), "a comment of another type is a tuple to piexif"
    return str(piexif.helper.UserComment.load(comment))


def web_ui_parameters(text: str) -> dict[str, str]:
    """Prompt, negative prompt and settings: the last line, if three settings are in it."""
    setting = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    *lines, last = text.strip().split("\n")
    found = setting.findall(last)
    if len(found) < 3:
        lines, found = [*lines, last], []
    prompts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    current = "Prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            current = "Negative prompt"
            prompts[current].append(line.removeprefix("Negative prompt:").strip())
        else:
            prompts[current].append(line)
    result = {name: "\n".join(each).strip("\n") for name, each in prompts.items()}
    for name, value in found:
        assert value, f"{name}: the web UI stumbles on an empty value"
        result[name] = json.loads(value) if value[0] == '"' == value[-1] else value
    return result


def civitai_parameters(text: str) -> dict[str, object]:
    """The first line that begins with Steps is the settings; the rest is cut at the negative."""
    lines = [line for line in text.split("\n") if line.strip()]
    details = next(line for line in lines if line.startswith("Steps: "))
    lines.remove(details)
    assert not any(line.startswith(("Template: ", "Negative Template: ")) for line in lines)
    prompt, *negative = (part.strip() for part in "\n".join(lines).split("Negative prompt:"))
    networks = re.findall(r"<(lora|hypernet):([a-zA-Z0-9_.\-]+):([0-9.]+)>", prompt)
    return {
        "prompt": prompt,
        "negativePrompt": " ".join(negative).strip(),
        "networks": networks,
        **_details(details),
    }


def _details(line: str) -> dict[str, object]:
    """Names and values; a value in quotes has names and values of its own."""
    result: dict[str, object] = {}
    name, value, quoted = "", "", False
    for letter in f"{line},":
        if letter == '"':
            if quoted:
                result[name], name = _details(value.strip()), ""
            quoted = not quoted
        elif letter == ":" and not quoted:
            name, value = value.strip(), ""
        elif letter == "," and not quoted:
            if name:
                result[name] = value.strip()
            name, value = "", ""
        else:
            value += letter
    return result


def comfyui_parameters(text: str) -> tuple[str, str, str] | None:
    """Prompt, negative prompt and settings; None where the frontend makes nothing of a text."""
    end = text.rfind("\nSteps:")
    cut = text.rfind("\nNegative prompt:", 0, end + 1)
    if end < 0 or cut < 0:
        return None
    return (
        text[:cut].strip(),
        text[cut + 18 : end].strip(),
        text[end + 1 :].partition("\n")[0],
    )


def web_ui_networks(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    """The prompt without its extra networks, and these."""
    network = re.compile(r"<(\w+):([^>]+)>")
    return network.sub("", prompt), network.findall(prompt)


def is_composed(prompt: str) -> bool:
    """True where AND, `[from:to:when]` or `[one|other]` makes several prompts of one."""
    return re.search(r"\bAND\b(?!_PERP|_SALT|_TOPK)", prompt) is not None or _edits(prompt)


def _edits(prompt: str) -> bool:
    plain = re.sub(r"\\.", "", prompt, flags=re.DOTALL)
    innermost = re.compile(r"\[[^\[\]()]*\]|\([^\[\]()]*\)")
    while found := innermost.search(plain):
        piece = found[0]
        if piece[0] == "[" and ("|" in piece or re.search(r":\s*[+-]?[.\d]+\s*\]$", piece)):
            return True
        plain = plain[: found.start()] + plain[found.end() :]
    return False


_ATTENTION = re.compile(
    r"\\[()\[\]\\]|\\|\(|\[|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:"
)


def web_ui_attention(prompt: str) -> Weighted:
    """Pieces of text with their weights; BREAK is a piece of weight -1."""
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        weights[start:] = [weight * factor for weight in weights[start:]]

    for match in _ATTENTION.finditer(prompt):
        text = match[0]
        if text in opened:
            opened[text].append(len(texts))
        elif match["weight"] is not None and opened["("]:
            close("(", float(match["weight"]))
        elif text == ")" and opened["("]:
            close("(", 1.1)
        elif text == "]" and opened["["]:
            close("[", 1 / 1.1)
        else:
            for part, weight in _parts(text):
                texts.append(part)
                weights.append(weight)
    for bracket, factor in (("(", 1.1), ("[", 1 / 1.1)):
        while opened[bracket]:
            close(bracket, factor)
    return list(zip(texts, weights, strict=True))


def _parts(text: str) -> Weighted:
    """A backslash goes; each BREAK stands between two pieces."""
    if text.startswith("\\"):
        return [(text[1:], 1.0)]
    first, *rest = re.split(r"\s*\bBREAK\b\s*", text)
    return [(first, 1.0), *(piece for part in rest for piece in (BREAK, (part, 1.0)))]


def web_ui_timesteps(
    title: str, steps: int, sigmas: NDArray[np.float64], low: float = 0, high: float = 0
) -> NDArray[np.float64]:
    """The training timesteps `[steps]` of a schedule, falling; `sigmas` are all, rising. `low` and
    `high` are the settings of the schedule's ends, 0 for those of `sigmas`."""
    last = len(sigmas) - 1
    low, high = low or float(sigmas[0]), high or float(sigmas[-1])
    match title:
        case "Uniform":
            return np.linspace(last, 0, steps)
        case "SGM Uniform":
            return np.linspace(last, 0, steps + 1)[:-1]
        case "DDIM":
            return np.arange(1, last + 1, max(len(sigmas) // steps, 1))[::-1].astype(np.float64)
        case "Karras":
            ramp = np.linspace(0, 1, steps)
            chosen = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        case "Exponential":
            chosen = np.exp(np.linspace(np.log(high), np.log(low), steps))
        case _:
            raise AssertionError(f"no schedule is called {title!r}")
    return np.interp(np.log(chosen), np.log(sigmas), np.arange(len(sigmas)))
