"""torch's own attention without its memory-efficient kernel.

In A1111 v1.10.1 the option allows FLASH and MATH; the cuDNN kernel came to torch later and is
excluded here, so that the option keeps meaning the same two kernels. On a CPU the kernel is the
one `sdp` runs: what makes the option is the flag.
"""

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.optimizations.attention.backend import FUSED, Backend, Flag
from core.optimizations.attention.slicing import Cut

ALLOWED = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    with sdpa_kernel(ALLOWED):
        return F.scaled_dot_product_attention(query, key, value, scale=scale)


def _excluded() -> bool:
    return not any(
        (
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.cudnn_sdp_enabled(),
        )
    )


SDP_NO_MEM = Backend(
    name="sdp-no-mem",
    summary="PyTorch's attention without its memory-efficient kernel: Flash or plain arithmetic.",
    changes="Rounding, where the device would have chosen the memory-efficient kernel.",
    kernel=kernel,
    # MATH is no operator of its own: it shows as the products and the softmax it is made of.
    made_of=((*FUSED, "_safe_softmax", "_softmax"),),
    excludes=("_scaled_dot_product_efficient", "_scaled_dot_product_cudnn"),
    flag=Flag(
        stands=_excluded,
        otherwise="the memory-efficient or the cuDNN kernel was allowed during a call",
    ),
)
