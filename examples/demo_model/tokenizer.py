"""Trains the small byte-pair vocabulary that both text encoders share, in CLIP's form."""

import argparse
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from examples.demo_model.paths import EMOJI_WORDS, WORK
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.vocabulary import COLOURS, OBJECTS, SHAPES

VOCABULARY_SIZE = 2048
MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"

# How CLIP splits a text into words before merging.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def training_texts(seed: int) -> list[str]:
    """Captions, every coloured thing, and the emoji keywords that people would type."""
    random_source = random.Random(seed)
    captions = [sample_caption(sample_scene(random_source), random_source) for _ in range(5000)]
    coloured = [f"a {colour} {name}" for colour in COLOURS for name in (*OBJECTS, *SHAPES)]
    keywords = json.loads(EMOJI_WORDS.read_text()).values()
    return captions + coloured + [" ".join(words).replace("_", " ") for words in keywords]


def train_vocabulary(texts: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Token strings in id order, and the merges in order of rank."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    return _in_clip_order(alphabet, merges)


def _in_clip_order(
    alphabet: list[str], merges: list[tuple[str, str]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """CLIP's ids: bytes, bytes that end a word, merges by rank, start and end."""
    tokens = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet)])
    kept = []
    for left, right in merges:
        if len(tokens) >= VOCABULARY_SIZE - 2 and left + right not in tokens:
            continue
        tokens[left + right] = None
        kept.append((left, right))
    return [*tokens, START, END], kept


def save_tokenizer(folder: Path, tokens: list[str], merges: list[tuple[str, str]]) -> None:
    """Writes vocab.json, merges.txt and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_LENGTH,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    save_tokenizer(WORK / "tokenizer", *train_vocabulary(training_texts(arguments.seed)))
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    for text in ("a cat on a purple background", "A Hélicopter, 123!"):
        print(tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids))
    lost = [
        word
        for word in " ".join((*OBJECTS, *SHAPES, *COLOURS)).split()
        if len(tokenizer.tokenize(word)) > 1
    ]
    print(f"{len(tokenizer)} tokens; words of more than one token: {lost}")


if __name__ == "__main__":
    main()
