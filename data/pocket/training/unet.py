"""Training of the UNet and its text encoder, resumable at any checkpoint.

float32 throughout: bfloat16 pays only on CPUs with instructions for it (AVX-512 bf16, AMX), and
is several times slower on others.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from icons import load_icons
from model import SCHEDULE, Parts, load_parts, save_parts
from optimizer import WORKERS, Optimizer, State, attach, load_state, new_state
from shards import SHARDS, SIZES, Shard, held_out_shard, load_shard, tokenize
from torch import Tensor, multiprocessing

BATCH = {64: 24, 96: 12, 128: 6}
"""Pictures per worker and step: about equal work at every size."""

FIRST, LAST = (0.35, 0.35, 0.30), (0.1, 0.2, 0.7)
"""Share of steps by size, at the beginning and at the end."""

LONGEST = 5.0
"""Seconds that a step may count at most: a stopped or starved process does not age."""


@dataclass(frozen=True)
class Training:
    """What a run is given: `minutes` of work in total, `rate` the highest learning rate."""

    work: Path
    start: Path
    log: Path
    minutes: float
    rate: float = 2e-3
    checkpoint_minutes: float = 5.0


class Noise:
    """Noise levels of the schedule, and the loss on them."""

    def __init__(self) -> None:
        self.signal = DDPMScheduler(**SCHEDULE).alphas_cumprod

    def loss(
        self, parts: Parts, latents: Tensor, tokens: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Squared error of the velocity per picture (n,), for steps t (n,) in 0…999."""
        share = self.signal[t].view(-1, 1, 1, 1)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1 - share).sqrt() * latents
        words = parts.text_encoder(tokens).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        guess = parts.unet(noisy, t, words, return_dict=False)[0]
        return F.mse_loss(guess, velocity, reduction="none").mean((1, 2, 3))


def stratified_steps(count: int, generator: torch.Generator) -> Tensor:
    """Noise steps (count,) spread evenly over 0…999, in random order: less variance than dice."""
    even = (torch.arange(count) + torch.rand(count, generator=generator)) * (1000 / count)
    return even.long()[torch.randperm(count, generator=generator)]


def learning_rate(highest: float, progress: float, number: int) -> float:
    """Warm-up over 60 steps, then a cosine to zero at the end of the time budget."""
    return highest * min(1, number / 60) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))


def pick_size(progress: float, generator: torch.Generator) -> int:
    """The size of a step's pictures; native ones become more frequent."""
    shares = [a + (b - a) * progress for a, b in zip(FIRST, LAST, strict=True)]
    return SIZES[int(torch.multinomial(torch.tensor(shares), 1, generator=generator))]


class Batches:
    """Batches from all shards of each size, shuffled without end, with caption dropout."""

    def __init__(self, shards: dict[int, list[Shard]], empty: Tensor, generator: torch.Generator):
        self.latents = {s: torch.cat([shard.latents for shard in shards[s]]) for s in shards}
        self.tokens = {s: torch.cat([shard.tokens for shard in shards[s]]) for s in shards}
        self.queue = {size: torch.empty(0, dtype=torch.long) for size in shards}
        self.empty, self.generator = empty, generator

    def next(self, size: int) -> tuple[Tensor, Tensor]:
        """Latents and tokens; one caption in ten is empty, which is what guidance needs."""
        count = BATCH[size]
        if len(self.queue[size]) < count:
            total = len(self.latents[size])
            self.queue[size] = torch.randperm(total, generator=self.generator)
        chosen, self.queue[size] = self.queue[size][:count], self.queue[size][count:]
        tokens = self.tokens[size][chosen]
        tokens[torch.rand(count, generator=self.generator) < 0.1] = self.empty
        return self.latents[size][chosen], tokens


@torch.no_grad()
def held_out_loss(parts: Parts, noise: Noise, shard: Shard) -> list[float]:
    """Mean loss by quarter of the noise steps, on fixed noise."""
    generator = torch.Generator().manual_seed(3)
    t = stratified_steps(len(shard.tokens), generator)
    eps = torch.randn(shard.latents.shape, generator=generator)
    columns = (x.split(8) for x in (shard.latents, shard.tokens, t, eps))
    losses = torch.cat([noise.loss(parts, *batch) for batch in zip(*columns, strict=True)])
    return [round(losses[t // 250 == quarter].mean().item(), 4) for quarter in range(4)]


def work(
    worker: int, training: Training, state: State, gradients: Tensor, together: Barrier
) -> None:
    """One process: makes its shards, then steps in time with the other until the budget ends."""
    torch.set_num_threads(1)
    parts = load_parts(training.start)
    icons = load_icons(training.work)
    for number, (size, index) in enumerate((s, i) for i in range(SHARDS) for s in SIZES):
        if number % WORKERS == worker:
            load_shard(parts, icons, training.work, size, index)
    together.wait()
    shards = {
        size: [load_shard(parts, icons, training.work, size, i) for i in range(SHARDS)]
        for size in SIZES
    }
    unseen = held_out_shard(parts, icons) if worker == 0 else None
    modules = [parts.unet.train(), parts.text_encoder.train()]
    attach(modules, state.weights, gradients[worker])
    optimizer = Optimizer(modules, state, gradients, worker)
    noise = Noise()
    seed = 1_000_000 * worker + int(state.clock[1])
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(shards, tokenize(parts.tokenizer, [""])[0], generator)
    seen: list[list[float]] = [[], [], [], []]
    due = state.clock[0].item() + 60 * training.checkpoint_minutes
    together.wait()
    while True:
        begun = time.monotonic()
        progress = state.clock[0].item() / (60 * training.minutes)
        number = int(state.clock[1]) + 1
        size = pick_size(progress, generator)
        latents, tokens = batches.next(size)
        t = stratified_steps(len(tokens), generator)
        eps = torch.randn(latents.shape, generator=generator)
        gradients[worker].zero_()
        losses = noise.loss(parts, latents, tokens, t, eps)
        losses.mean().backward()
        for quarter in range(4):
            seen[quarter] += losses[t // 250 == quarter].tolist()
        together.wait()
        optimizer.step(learning_rate(training.rate, progress, number), number)
        together.wait()
        if worker == 0:
            spent = min(LONGEST, time.monotonic() - begun)
            state.clock += torch.tensor([spent, 1, WORKERS * len(tokens)])
        together.wait()
        done = state.clock[0].item() >= 60 * training.minutes
        if state.clock[0].item() >= due or done:
            if worker == 0:
                attach(modules, state.average)
                assert unseen is not None
                line = {
                    "minutes": round(state.clock[0].item() / 60, 2),
                    "steps": int(state.clock[1]),
                    "pictures": int(state.clock[2]),
                    "loss_by_noise_quarter": [round(sum(x) / max(1, len(x)), 4) for x in seen],
                    "held_out_loss": held_out_loss(parts, noise, unseen),
                }
                save_parts(parts, training.work / "pipeline")
                state.save(training.work / "state.safetensors")
                with training.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
                print(line, flush=True)
                attach(modules, state.weights, gradients[0])
            seen = [[], [], [], []]
            due += 60 * training.checkpoint_minutes
            together.wait()
        if done:
            return


ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
"""Keeps big buffers in the heap, on huge pages: mapping them at each step cost 10 % of the time."""


def train_unet(training: Training) -> None:
    """Starts the workers, waits for them, and takes all down if one fails."""
    os.environ["GLIBC_TUNABLES"] = f"{ALLOCATOR}:glibc.malloc.trim_threshold=4294967296"
    saved = training.work / "state.safetensors"
    parts = load_parts(training.start)
    modules = [parts.unet, parts.text_encoder]
    state = (load_state(saved) if saved.exists() else new_state(modules)).share()
    gradients = torch.zeros(WORKERS, len(state.weights)).share_memory_()
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(WORKERS)
    processes = multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
        work, (training, state, gradients, together), nprocs=WORKERS, join=False
    )
    assert processes is not None
    pids = [os.getpid(), *processes.pids()]
    (training.work / "pids").write_text("".join(f"{pid}\n" for pid in pids))
    while not processes.join():
        pass
