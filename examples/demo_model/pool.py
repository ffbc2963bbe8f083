"""The training pool: scenes drawn, encoded by the VAE and captioned, in seeded shards."""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from examples.demo_model.checkpoints import save_checkpoint
from examples.demo_model.compose import Composer
from examples.demo_model.paths import ASSETS, POOL, WORK
from examples.demo_model.precision import fast_dtype
from examples.demo_model.scenes import Scene, sample_caption, sample_scene

Pictures = NDArray[np.uint8]

SHARD_SCENES = 2048
CAPTIONS_PER_SCENE = 4
_ENCODE_BATCH = 32


@dataclass(frozen=True)
class Shard:
    """Scaled latents `[N, 4, 16, 16]` and token ids of their captions `[N, 4, 32]`."""

    latents: Tensor
    token_ids: Tensor


class PoolEncoder:
    """Makes shards. The seed and the shard's number alone decide what is in it."""

    def __init__(
        self,
        seed: int,
        device: str = "cpu",
        sample: Callable[[random.Random], Scene] = sample_scene,
        folder: Path = POOL,
    ) -> None:
        """`sample` draws the scenes; shards are kept in `folder`."""
        self._seed = seed
        self._sample = sample
        self._folder = folder
        self._device = device
        self._composer = Composer(ASSETS)
        self._tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
        vae = AutoencoderKL.from_pretrained(WORK / "vae").eval()
        self._scale: float = vae.config["scaling_factor"]
        self._dtype = fast_dtype(device)
        self._vae = vae.to(device, self._dtype, memory_format=torch.channels_last)

    def shard(self, number: int) -> Shard:
        """Reads the shard from disk, or makes it and writes it there."""
        path = self._folder / f"{number:04d}.pt"
        if not path.exists():
            made = self._make(number)
            save_checkpoint(path, {"latents": made.latents.half(), "token_ids": made.token_ids})
        stored = torch.load(path, weights_only=True)
        return Shard(stored["latents"].float(), stored["token_ids"])

    def _make(self, number: int) -> Shard:
        random_source = random.Random(f"{self._seed}/{number}")
        latents, captions = [], []
        for _ in tqdm(range(SHARD_SCENES // _ENCODE_BATCH), desc=f"shard {number}", mininterval=5):
            scenes = [self._sample(random_source) for _ in range(_ENCODE_BATCH)]
            latents.append(self.encode(self.draw(scenes, random_source)))
            captions += [
                sample_caption(scene, random_source)
                for scene in scenes
                for _ in range(CAPTIONS_PER_SCENE)
            ]
        token_ids = self.tokenize(captions).view(SHARD_SCENES, CAPTIONS_PER_SCENE, -1)
        return Shard(torch.cat(latents), token_ids)

    def draw(self, scenes: Sequence[Scene], random_source: random.Random) -> Pictures:
        """The scenes as 8-bit pictures `[B, 128, 128, 3]`."""
        return np.stack([self._composer.draw(scene, random_source) for scene in scenes])

    @torch.no_grad()
    def encode(self, pictures: Pictures) -> Tensor:
        """8-bit pictures `[B, H, W, 3]` to scaled latents `[B, 4, H / 8, W / 8]` on the CPU."""
        signed = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(self._device) / 127.5 - 1
        channels_last = signed.to(self._dtype, memory_format=torch.channels_last)
        mean: Tensor = self._vae.encode(channels_last).latent_dist.mean
        return (mean.float() * self._scale).cpu()

    def tokenize(self, texts: list[str]) -> Tensor:
        """Token ids `[B, 32]`, padded exactly as the pipeline pads them."""
        encoded = self._tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        token_ids: Tensor = encoded.input_ids
        return token_ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = PoolEncoder(arguments.seed)
    for number in range(arguments.first, arguments.first + arguments.count):
        encoder.shard(number)


if __name__ == "__main__":
    main()
