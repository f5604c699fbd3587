"""Training state shared by two processes, and the optimizer that moves it.

Weights, averages and moments are flat float32 vectors in shared memory. Each process computes
gradients on its own batch, then updates its own half of the parameters for both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WORKERS = 2
"""Two single-threaded processes train faster than one with two threads: small convolutions
parallelize badly."""


@dataclass
class State:
    """Everything that training changes. `clock`: seconds that passed, and steps; each
    worker counts the `pictures` it saw and the seconds of a `processor` it was given."""

    weights: Tensor
    average: Tensor
    first: Tensor
    second: Tensor
    clock: Tensor
    pictures: Tensor
    processor: Tensor

    def save(self, path: Path) -> None:
        """One safetensors file, replaced in one move."""
        fresh = path.with_suffix(".part")
        save_file({field.name: getattr(self, field.name) for field in fields(self)}, fresh)
        fresh.replace(path)

    def figures(self) -> dict[str, float]:
        """What the log says of the work so far."""
        return {
            "minutes": round(self.clock[0].item() / 60, 2),
            "core_minutes": round(self.processor.sum().item() / 60, 2),
            "steps": int(self.clock[1]),
            "pictures": int(self.pictures.sum()),
        }

    def share(self) -> State:
        """Moves every vector to shared memory."""
        for field in fields(self):
            getattr(self, field.name).share_memory_()
        return self


def new_state(modules: list[nn.Module]) -> State:
    """A state that starts at the modules' weights, with empty moments."""
    parameters = [p.detach() for m in modules for p in m.parameters()]
    weights = torch.empty(sum(p.numel() for p in parameters))
    for view, parameter in zip(views(weights, modules), parameters, strict=True):
        view.copy_(parameter)
    return State(
        weights.clone(),
        weights.clone(),
        torch.zeros_like(weights),
        torch.zeros_like(weights),
        *(torch.zeros(size, dtype=torch.float64) for size in (2, WORKERS, WORKERS)),
    )


def load_state(path: Path) -> State:
    """A saved state, moments included."""
    return State(**load_file(path))


def views(vector: Tensor, modules: list[nn.Module]) -> list[Tensor]:
    """The vector cut into one view per parameter, in the parameter's shape; convolutions are
    channels last in memory, which oneDNN computes with as they are."""
    parameters = [p for m in modules for p in m.parameters()]
    pieces = vector.split([p.numel() for p in parameters])
    return [shaped(piece, p.shape) for piece, p in zip(pieces, parameters, strict=True)]


def shaped(piece: Tensor, shape: torch.Size) -> Tensor:
    """A flat piece as a parameter, without a copy."""
    if len(shape) != 4:
        return piece.view(shape)
    outputs, inputs, height, width = shape
    return piece.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def attach(modules: list[nn.Module], vector: Tensor, gradient: Tensor | None = None) -> None:
    """Makes the modules compute with the vector's numbers, and add gradients into another's."""
    parameters = [p for m in modules for p in m.parameters()]
    for parameter, view in zip(parameters, views(vector, modules), strict=True):
        parameter.data = view
    if gradient is not None:
        for parameter, view in zip(parameters, views(gradient, modules), strict=True):
            parameter.grad = view


def orthogonalized(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with singular values near 1 (Muon: Jordan et al. 2024).

    Newton–Schulz iterations commute with the Gram matrix, so they run on the small square one and
    touch the long side twice only: on a CPU this is several times cheaper.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-12)
    gram = wide @ wide.T
    identity = torch.eye(len(gram))
    total = identity
    for _ in range(rounds):
        step = a * identity + b * gram + c * gram @ gram
        total = step @ total
        gram = step @ gram @ step
    result: Tensor = total @ wide
    return result if matrix.shape[0] <= matrix.shape[1] else result.T


class Optimizer:
    """Muon for matrices, Adam for the rest; a worker moves every other parameter by size."""

    def __init__(self, modules: list[nn.Module], state: State, gradients: Tensor, worker: int):
        named = [(name, p) for m in modules for name, p in m.named_parameters()]
        columns = [
            views(vector, modules)
            for vector in (state.weights, state.average, state.first, state.second, *gradients)
        ]
        rows = list(zip(named, *columns, strict=True))
        rows.sort(key=lambda row: -row[0][1].numel())
        self.rows = rows[worker::WORKERS]
        self.state = state
        self.gradients = gradients

    @torch.no_grad()
    def step(self, rate: float, number: int, decay: float = 0.998) -> None:
        """One update of this worker's half from the mean of both gradients; `decay` is the
        average's. Clipped at a global norm of 1."""
        norm = (self.gradients.sum(0) / WORKERS).norm().item()
        if not norm < float("inf"):
            return
        clip = min(1.0, 1.0 / (norm + 1e-6)) / WORKERS
        for (name, _), weight, average, first, second, *gradients in self.rows:
            gradient = sum(gradients[1:], gradients[0]) * clip
            if is_matrix(name, weight):
                first.mul_(0.95).add_(gradient)
                update = orthogonalized((gradient + 0.95 * first).flatten(1)).reshape(weight.shape)
                # 0.2·√(longest side) gives Adam's usual step size (Liu et al. 2025), so that one
                # learning rate serves both; matrices bear twice as much of it.
                scale = 0.2 * max(weight.flatten(1).shape) ** 0.5
                weight.mul_(1 - 0.01 * rate).add_(update, alpha=-rate * scale)
            else:
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.01)
                mean, spread = first / (1 - 0.9**number), second / (1 - 0.99**number)
                weight.add_(mean / (spread.sqrt() + 1e-8), alpha=-rate / 2)
            average.lerp_(weight, 1 - min(decay, (1 + number) / (10 + number)))


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon applies: not to vectors, embeddings, nor the first and last convolutions."""
    ends = ("embedding.weight", "conv_in.weight", "conv_out.weight")
    return weight.ndim > 1 and not name.endswith(ends)
