"""torch's own attention, with the kernel that torch chooses: the baseline."""

import torch
from torch.nn import functional as F

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Cut


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, scale=scale)


SDP = Backend(
    name="sdp",
    summary="PyTorch's scaled dot product attention; PyTorch picks the kernel.",
    changes="Nothing: everything else is compared with it.",
    kernel=kernel,
    made_of=(FUSED,),
)
