"""xFormers' memory-efficient attention, with the kernel that xFormers chooses."""

import torch

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Cut


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    """xFormers wants (batch, tokens, heads, head_dim) and is imported only where it is used."""
    try:
        from xformers.ops import memory_efficient_attention
    except ImportError as error:
        raise RuntimeError(
            f"xFormers cannot be imported ({error}): install the xformers release that was built "
            f"for torch {torch.__version__}"
        ) from error
    out: torch.Tensor = memory_efficient_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=scale
    )
    return out.transpose(1, 2)


XFORMERS = Backend(
    name="xformers",
    summary="xFormers' memory-efficient attention; xFormers picks the kernel.",
    changes="Rounding.",
    kernel=kernel,
    # Its own kernels, or the flash kernels of flash-attn and torch that it calls directly.
    made_of=(("xformers", "flash_attn", "_flash_attention", "_efficient_attention"),),
    excludes=FUSED,
    needs=frozenset({"cuda"}),
)
