"""The attention slot: how softmax(QKᵀ)V is computed in the UNet and the VAE."""

from core.optimization import Slot
from core.optimizations.attention.none import NONE
from core.optimizations.attention.processor import optimization
from core.optimizations.attention.sdp import SDP
from core.optimizations.attention.sdp_no_mem import SDP_NO_MEM
from core.optimizations.attention.sub_quadratic import SUB_QUADRATIC
from core.optimizations.attention.xformers import XFORMERS

BACKENDS = (
    SDP,
    SDP_NO_MEM,
    XFORMERS,
    SUB_QUADRATIC,
    NONE,
)

ATTENTION = Slot(
    name="attention",
    label="Attention",
    options=tuple(optimization(backend) for backend in BACKENDS),
    default=lambda platform: SDP.name,
)
