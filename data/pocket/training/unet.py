"""Training of the UNet and its text encoder, resumable at any checkpoint.

The learning rate is constant for as long as the trunk grows; a cooldown branches off its last
checkpoint, falls to zero and gives the weights to ship. So no length is chosen in advance, and the
trunk goes on another day (Hägele et al. 2024, "Scaling laws and compute-optimal training beyond
fixed training durations").
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from icons import Icons, load_icons
from model import SCHEDULE, Parts, load_parts, save_parts
from optimizer import WORKERS, Optimizer, State, attach, load_state, new_state
from shards import POOLS, SHARDS, Shard, held_out_shard, load_shard, tokenize
from torch import Tensor, multiprocessing

TRUNK = (0.22, 0.30, 0.03, 0.39, 0.02, 0.02, 0.02)
COOLDOWN = (0.10, 0.27, 0.02, 0.52, 0.03, 0.03, 0.03)
"""Shares of steps by pool, in the order of `POOLS`."""


@dataclass(frozen=True)
class Training:
    """What a run is given: `minutes` by the clock, `rate` the learning rate; `bfloat16` computes
    in it where it is safe (weights and sums stay float32), which pays on CPUs that have AVX-512
    bf16 or AMX and is several times slower on others."""

    work: Path
    start: Path
    log: Path
    minutes: float
    rate: float = 1.5e-3
    cooldown: bool = False
    bfloat16: bool = False
    checkpoint_minutes: float = 5.0


class Noise:
    """Noise levels of the schedule, and the loss on them."""

    def __init__(self, bfloat16: bool) -> None:
        self.signal = DDPMScheduler(**SCHEDULE).alphas_cumprod
        self.bfloat16 = bfloat16

    def loss(
        self, parts: Parts, latents: Tensor, tokens: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Squared error of the velocity per picture (n,), for steps t (n,) in 0…999."""
        share = self.signal[t].view(-1, 1, 1, 1)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1 - share).sqrt() * latents
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            words = parts.text_encoder(tokens).last_hidden_state
            guess = parts.unet(noisy, t, words, return_dict=False)[0]
        return F.mse_loss(guess.float(), velocity, reduction="none").mean((1, 2, 3))


def stratified_steps(count: int, generator: torch.Generator) -> Tensor:
    """Noise steps (count,) spread evenly over 0…999, in random order: less variance than dice."""
    even = (torch.arange(count) + torch.rand(count, generator=generator)) * (1000 / count)
    return even.long()[torch.randperm(count, generator=generator)]


class Batches:
    """Batches from the shards of each pool, shuffled without end, with caption dropout.

    `take` adds the next shard of every pool while there are any: the workers make them in turns.
    """

    def __init__(self, parts: Parts, icons: Icons, work: Path, generator: torch.Generator) -> None:
        self.parts, self.icons, self.work, self.generator = parts, icons, work, generator
        self.shards: list[list[Shard]] = [[] for _ in POOLS]
        self.queues = [torch.empty(0, 2, dtype=torch.long) for _ in POOLS]
        self.empty = tokenize(parts.tokenizer, [""])[0]

    def make(self, index: int, worker: int) -> None:
        """Makes this worker's part of the shards numbered `index`, where they are missing."""
        for number, pool in enumerate(POOLS):
            if number % WORKERS == worker and index < SHARDS:
                load_shard(self.parts, self.icons, self.work, pool, index)

    def take(self, index: int) -> None:
        """Reads the shards numbered `index`, which all workers have made."""
        for shards, pool in zip(self.shards, POOLS, strict=True):
            if index < SHARDS:
                shards.append(load_shard(self.parts, self.icons, self.work, pool, index))

    def made(self) -> int:
        """How many shards of every pool exist, at least one: what a resumed run starts with."""
        count = 1
        while count < SHARDS and all(
            (self.work / f"shard-{pool.size[0]}x{pool.size[1]}-{count}.pt").exists()
            for pool in POOLS
        ):
            count += 1
        return count

    def next(self, number: int) -> tuple[Tensor, Tensor]:
        """Latents and tokens; one caption in ten is empty, which is what guidance needs."""
        count, shards = POOLS[number].batch, self.shards[number]
        if len(self.queues[number]) < count:
            every = [(s, i) for s, shard in enumerate(shards) for i in range(len(shard.tokens))]
            order = torch.randperm(len(every), generator=self.generator)
            self.queues[number] = torch.tensor(every)[order]
        chosen, self.queues[number] = self.queues[number].split(
            [count, len(self.queues[number]) - count]
        )
        latents = torch.stack([shards[s].latents[i] for s, i in chosen.tolist()])
        tokens = torch.stack([shards[s].tokens[i] for s, i in chosen.tolist()])
        tokens[torch.rand(count, generator=self.generator) < 0.1] = self.empty
        return latents, tokens


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
    """One process: steps in time with the other until the clock says so."""
    torch.set_num_threads(1)
    parts = load_parts(training.start)
    noise = Noise(training.bfloat16)
    icons = load_icons(training.work)
    generator = torch.Generator().manual_seed(1_000_000 * worker + int(state.clock[1]))
    batches = Batches(parts, icons, training.work, generator)
    ready = batches.made()
    batches.make(0, worker)
    together.wait()
    for index in range(ready):
        batches.take(index)
    unseen = held_out_shard(parts, icons) if worker == 0 else None
    modules = [parts.unet.train(), parts.text_encoder.train()]
    attach(modules, state.weights, gradients[worker])
    optimizer = Optimizer(modules, state, gradients, worker)
    shares = torch.tensor(COOLDOWN if training.cooldown else TRUNK)
    seen: list[list[float]] = [[], [], [], []]
    together.wait()
    begun, due = time.monotonic(), 60 * training.checkpoint_minutes
    before, counted = state.clock[0].item(), time.process_time()
    while True:
        number = int(state.clock[1]) + 1
        progress = (state.clock[0].item() - before) / (60 * training.minutes)
        latents, tokens = batches.next(int(torch.multinomial(shares, 1, generator=generator)))
        t = stratified_steps(len(tokens), generator)
        eps = torch.randn(latents.shape, generator=generator)
        gradients[worker].zero_()
        losses = noise.loss(parts, latents, tokens, t, eps)
        losses.mean().backward()
        for quarter in range(4):
            seen[quarter] += losses[t // 250 == quarter].tolist()
        together.wait()
        falling = max(0.0, 1 - progress) if training.cooldown else 1.0
        optimizer.step(training.rate * min(1, number / 100) * falling, number)
        together.wait()
        state.pictures[worker] += len(tokens)
        state.processor[worker] += time.process_time() - counted
        counted = time.process_time()
        if worker == 0:
            state.clock[0] = before + time.monotonic() - begun
            state.clock[1] += 1
        together.wait()
        worked = state.clock[0].item() - before
        done = worked >= 60 * training.minutes
        if worked >= due or done:
            if worker == 0:
                attach(modules, state.average)
                assert unseen is not None
                line = state.figures() | {
                    "cooldown": training.cooldown,
                    "learning_rate": training.rate,
                    "shards": ready,
                    "loss_by_noise_quarter": [round(sum(x) / max(1, len(x)), 4) for x in seen],
                    "held_out_loss": held_out_loss(parts, noise, unseen),
                }
                save_parts(parts, training.work / "pipeline")
                if not training.cooldown:
                    state.save(training.work / "state.safetensors")
                with training.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
                print(line, flush=True)
                attach(modules, state.weights, gradients[0])
            seen = [[], [], [], []]
            due += 60 * training.checkpoint_minutes
            if ready < SHARDS and not (training.cooldown or done):
                batches.make(ready, worker)
                together.wait()
                batches.take(ready)
                ready += 1
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
