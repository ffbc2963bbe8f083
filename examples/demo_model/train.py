"""Trains the UNet and both text encoders on the pool of captioned latents."""

import argparse
import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    step_generator,
)
from examples.demo_model.models import Conditioning, Denoiser, build_scheduler
from examples.demo_model.optimizers import MatrixOptimizer
from examples.demo_model.paths import WORK
from examples.demo_model.pool import CAPTIONS_PER_SCENE, PoolEncoder, Shard
from examples.demo_model.position import PositionScaffold
from examples.demo_model.precision import autocast

PEAK_LEARNING_RATE = 1.6e-3
# Of the steps at that rate; a cosine follows.
FLAT_SHARE = 0.55
SNR_LIMIT = 5.0
LEAST_WEIGHT = 0.4
POSITION_WEIGHT = 0.2
EMPTY_PROMPT_SHARE = 0.04
ZEROED_SHARE = 0.08


@dataclass(frozen=True)
class Batch:
    """Noisy latents, what the network should say of them, and the caption's token ids."""

    noisy: Tensor
    timesteps: Tensor
    velocity: Tensor
    weights: Tensor
    token_ids: Tensor
    kept: Tensor
    time_ids: Tensor


class NoiseSchedule:
    """The forward process of the pipeline's scheduler."""

    def __init__(self) -> None:
        self._alphas_cumprod = build_scheduler().alphas_cumprod

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy latents and the velocity, all `[B, 4, h, w]`."""
        alpha = self._alphas_cumprod[timesteps].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self._alphas_cumprod[timesteps]).sqrt().view(-1, 1, 1, 1)
        return alpha * clean + sigma * noise, alpha * noise - sigma * clean

    def weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weights for velocity prediction (Hang et al. 2023, section 3.4), with a floor.

        Without the floor, the noisiest steps, at which the text alone decides what will be drawn,
        would hardly count.
        """
        snr = self._alphas_cumprod[timesteps] / (1 - self._alphas_cumprod[timesteps])
        return (snr.clamp(max=SNR_LIMIT) / (snr + 1)).clamp(min=LEAST_WEIGHT)


def sample_time_ids(count: int, generator: torch.Generator) -> Tensor:
    """Mostly 128x128 without a crop; else any size, so that the model learns to ignore it."""
    usual = torch.tensor([128.0, 128, 0, 0, 128, 128]).repeat(count, 1)
    sizes = 64 * torch.randint(1, 17, (count, 2), generator=generator).float()
    other = torch.cat([sizes, torch.zeros(count, 2), sizes], 1)
    is_other = torch.rand(count, 1, generator=generator) < 0.2
    return torch.where(is_other, other, usual)


def make_batch(
    shards: list[Shard],
    size: int,
    empty_ids: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator,
) -> Batch:
    """Draws scenes, captions, noise and stratified timesteps; leaves out some captions.

    A prompt that is absent at inference is either encoded as the empty text or replaced by zeros
    (`force_zeros_for_empty_prompt`), so that training shows both.
    """
    chosen = torch.randint(0, len(shards) * len(shards[0].latents), (size,), generator=generator)
    places = [divmod(int(index), len(shards[0].latents)) for index in chosen]
    captions = torch.randint(0, CAPTIONS_PER_SCENE, (size,), generator=generator).tolist()
    clean = torch.stack([shards[shard].latents[row] for shard, row in places])
    token_ids = torch.stack(
        [
            shards[shard].token_ids[row, caption]
            for (shard, row), caption in zip(places, captions, strict=True)
        ]
    )
    strata = (torch.arange(size) + torch.rand(size, generator=generator)) / size
    timesteps = (strata * 1000).long().clamp(max=999)
    noisy, velocity = schedule.noised(
        clean, torch.randn(clean.shape, generator=generator), timesteps
    )
    choice = torch.rand(size, generator=generator)
    token_ids[choice < EMPTY_PROMPT_SHARE] = empty_ids
    return Batch(
        noisy=noisy,
        timesteps=timesteps,
        velocity=velocity,
        weights=schedule.weights(timesteps),
        token_ids=token_ids,
        kept=(choice < 1 - ZEROED_SHARE).float(),
        time_ids=sample_time_ids(size, generator),
    )


def velocity_loss(model: Denoiser, batch: Batch, device: str) -> Tensor:
    """The weighted squared error of the predicted velocity."""
    with autocast(device):
        hidden, pooled = model.encode_text(batch.token_ids.to(device))
        kept = batch.kept.to(device)
        conditioning = Conditioning(
            hidden * kept[:, None, None], pooled * kept[:, None], batch.time_ids.to(device)
        )
        predicted = model(batch.noisy.to(device), batch.timesteps.to(device), conditioning)
    errors = (predicted.float() - batch.velocity.to(device)).square().mean((1, 2, 3))
    return (errors * batch.weights.to(device)).mean()


@torch.no_grad()
def update_average(average: Denoiser, model: Denoiser, step: int) -> None:
    """Exponential moving average whose memory grows to about 200 steps."""
    rate = max(1 / 200, 9 / (10 + step))
    parameters = zip(average.parameters(), model.parameters(), strict=True)
    for mean, current in parameters:
        mean.lerp_(current, rate)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4900)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shards", type=int, default=12, help="shards of the pool in all")
    parser.add_argument("--shard-every", type=int, default=60, help="steps between new shards")
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--pool-seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


class Trainer:
    """The state of one training: weights, their average, the optimizer and the step."""

    def __init__(self, arguments: argparse.Namespace, checkpoint: Path) -> None:
        self._arguments = arguments
        self._checkpoint = checkpoint
        torch.manual_seed(arguments.seed)
        self.model = Denoiser().to(arguments.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = MatrixOptimizer(self.model)
        self.scaffold = PositionScaffold(self.model.unet)
        self.scaffold_optimizer = torch.optim.AdamW(self.scaffold.heads.parameters(), lr=5e-3)
        self.step = 0
        state = load_checkpoint(checkpoint)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            if "muon" in state["optimizer"]:
                self.optimizer.load_state_dict(state["optimizer"])
            if "scaffold" in state:
                self.scaffold.load_state_dict(state["scaffold"])
            self.step = state["step"]

    def save(self) -> None:
        """Writes everything that a resumed training needs."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaffold": self.scaffold.state_dict(),
            "step": self.step,
        }
        save_checkpoint(self._checkpoint, state)

    def advance(self, batch: Batch) -> float:
        """One optimizer step; returns the loss."""
        steps = self._arguments.steps
        rate = learning_rate(self.step, steps, PEAK_LEARNING_RATE, 100, FLAT_SHARE)
        self.optimizer.set_learning_rate(rate)
        loss = velocity_loss(self.model, batch, self._arguments.device)
        position_loss = self.scaffold.loss()
        left = max(0.0, 1 - self.step / (0.95 * steps))
        (loss + POSITION_WEIGHT * min(1.0, 4 * left) * position_loss).backward()
        self.position_loss = position_loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scaffold_optimizer.step()
        self.scaffold_optimizer.zero_grad(set_to_none=True)
        update_average(self.average, self.model, self.step)
        self.step += 1
        return loss.item()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    trainer = Trainer(arguments, WORK / "train" / "checkpoint.pt")
    run(trainer, PoolEncoder(arguments.pool_seed, arguments.device), arguments)


def run(trainer: Trainer, encoder: PoolEncoder, arguments: argparse.Namespace) -> None:
    """Trains to the last step, with a checkpoint now and then."""
    schedule, empty_ids = NoiseSchedule(), encoder.tokenize([""])[0]
    shards: list[Shard] = []
    losses: list[float] = []
    progress = tqdm(total=arguments.steps, initial=trainer.step, mininterval=20)
    while trainer.step < arguments.steps:
        wanted = 1 + trainer.step // arguments.shard_every if arguments.shard_every else math.inf
        while len(shards) < min(wanted, arguments.shards):
            shards.append(encoder.shard(len(shards)))
        generator = step_generator(arguments.seed, trainer.step)
        batch = make_batch(shards, arguments.batch, empty_ids, schedule, generator)
        losses.append(trainer.advance(batch))
        progress.update()
        if trainer.step % 50 == 0:
            mean = sum(losses) / len(losses)
            print(
                f"step {trainer.step} loss {mean:.4f} position {trainer.position_loss:.3f}",
                flush=True,
            )
            losses.clear()
        if trainer.step % arguments.save_every == 0 or trainer.step == arguments.steps:
            trainer.save()


if __name__ == "__main__":
    main()
