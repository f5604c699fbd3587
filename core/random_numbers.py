"""The random numbers of one job: the initial noise with its variation, and what samplers add."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from core import noise
from core.record import Record
from core.request import Request


class RandomNumbers:
    """One generator per picture. What was drawn is counted, and told to the record by setting."""

    def __init__(self, requests: Sequence[Request], device: torch.device, record: Record) -> None:
        self._requests, self._device, self._record = requests, device, record
        self._first = requests[0]
        self._generators: list[noise.Generator] = []
        self._drawn = 0
        self._fresh = 0
        self._changed = 0

    def initial(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """The noise that pictures begin with, (pictures, *shape), float32 on the CPU."""
        return self._begun(shape, lambda seed: seed)

    def second(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """What is added before a second pass, as `initial`; every seed has another there."""
        return self._begun(shape, noise.second_seed)

    def _begun(self, shape: tuple[int, int, int], seed_of: Callable[[int], int]) -> torch.Tensor:
        self._generators = self._seeded([seed_of(request.seed) for request in self._requests])
        own = noise.initial_noise(self._generators, shape)
        self._drawn += own.numel()
        pairs = zip(self._requests, own, strict=True)
        start = torch.stack([self._varied_noise(request, row, seed_of) for request, row in pairs])
        self._changed += int((start != own).sum())
        if delta := self._first.eta_noise_seed_delta:
            seeds = [seed_of(request.seed + delta) for request in self._requests]
            self._generators = self._seeded(seeds)
        return start

    @contextmanager
    def given(self) -> Iterator[None]:
        """What a scheduler draws in here it draws from the pictures' own generators."""
        with _Given(self):
            yield

    def fresh(self, shape: Sequence[int]) -> torch.Tensor:
        """Each picture's next noise, float32 on the CPU."""
        rows = [noise.normal(generator, (1, *shape[1:])) for generator in self._generators]
        self._drawn += sum(row.numel() for row in rows)
        self._fresh += 1
        return torch.cat(rows)

    def conclude(self) -> None:
        """Nothing is recorded of settings that are left as they are."""
        if self._first.noise_source != "CPU":
            self._conclude_source()
        if any(request.variation_strength for request in self._requests):
            self._conclude_variation()
        if self._first.eta_noise_seed_delta:
            self._conclude_delta()

    def _seeded(self, seeds: Sequence[int]) -> list[noise.Generator]:
        return noise.generators(seeds, self._first.noise_source, self._device)

    def _varied_noise(
        self, request: Request, own: torch.Tensor, seed_of: Callable[[int], int]
    ) -> torch.Tensor:
        if not request.variation_strength:
            return own
        (generator,) = self._seeded([seed_of(request.variation_seed)])
        other = noise.normal(generator, tuple(own.shape))
        self._drawn += other.numel()
        # Between a noise and itself there is rounding, and nothing else.
        if torch.equal(own, other):
            return own
        return noise.between(own, other, request.variation_strength)

    def _conclude_source(self) -> None:
        source = self._first.noise_source
        notes = self._record.slot("noise-source", source)
        notes.counts["numbers_drawn"] = self._drawn
        if source == "NV" or noise.draws_itself(self._device):
            notes.conclude("applied")
        else:
            notes.conclude(
                "none",
                f"pictures are computed on {self._device.type}, where the noise is the CPU's "
                "whatever is chosen",
            )

    def _conclude_variation(self) -> None:
        strengths = {f"{request.variation_strength:g}" for request in self._requests}
        notes = self._record.slot("variation", " ".join(sorted(strengths)))
        notes.counts["numbers_changed"] = self._changed
        if self._changed:
            notes.conclude("applied")
        else:
            notes.conclude("none", "the variation's noise is the picture's own")

    def _conclude_delta(self) -> None:
        notes = self._record.slot("eta-noise-seed-delta", str(self._first.eta_noise_seed_delta))
        notes.counts["noises_added"] = self._fresh
        if self._fresh > 1:
            notes.conclude("applied")
        else:
            notes.conclude("none", "the last step ends without noise, and there is no other")


class _Given(TorchFunctionMode):
    """Answers `torch.randn`, which diffusers' schedulers call for the noise they add."""

    def __init__(self, numbers: RandomNumbers) -> None:
        super().__init__()
        self._numbers = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = kwargs or {}
        if func is torch.randn:
            return self._numbers.fresh(args[0]).to(asked["device"], asked["dtype"])
        return func(*args, **asked)
