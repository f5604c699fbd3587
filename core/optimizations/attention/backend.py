"""An attention backend as a value: its kernel, and what has to be seen for it to have run."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from core.optimizations.attention.slicing import Cut, Part, Slicing

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, Cut], torch.Tensor]
"""`kernel(query, key, value, scale, cut)`, each (batch, heads, tokens, head_dim), gives the query's
shape. Who does not slice is handed the whole score matrix as its cut."""

FUSED = ("scaled_dot_product_attention", "_scaled_dot_product")
"""How the operators of torch's own fused attention begin."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A global setting that has to stand at every operator of a call."""

    stands: Callable[[], bool]
    otherwise: str
    """What was wrong where it did not stand, as the end of a sentence."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to compute attention.

    Operators are named without `aten::`; a name here matches every operator that begins with it.

    - `made_of`: groups of names; of each group at least one must be seen.
    - `excludes`: names of which none may be seen.
    - `flag`: what must stand during the calls.
    - `slicing`: how it cuts its score matrices; a backend that has one must be seen cutting.
    - `parts`: what it takes; layers of another part keep what they had.
    - `needs`: capabilities of `core.platforms.Platform`.
    """

    name: str
    summary: str
    kernel: Kernel
    made_of: tuple[tuple[str, ...], ...]
    changes: str = ""
    excludes: tuple[str, ...] = ()
    flag: Flag | None = None
    slicing: Slicing | None = None
    parts: tuple[Part, ...] = ("unet", "vae")
    needs: frozenset[str] = frozenset()

    def probe(self, device: torch.device, dtype: torch.dtype) -> None:
        """One real call with 64 query tokens, 77 keys and Stable Diffusion's smallest head.

        Raises with the reason where it fails.
        """
        query = torch.ones(1, 2, 64, 40, device=device, dtype=dtype)
        key = torch.ones(1, 2, 77, 40, device=device, dtype=dtype)
        with torch.no_grad():
            out = self.kernel(query, key, key, 40**-0.5, Cut(1, 32, 40))
        if not torch.allclose(out.float(), torch.ones_like(out, dtype=torch.float32), atol=0.05):
            raise RuntimeError("the average of ones did not come out as one")


def starts_with(names: tuple[str, ...], operator: str) -> bool:
    return any(operator.startswith(name) for name in names)
