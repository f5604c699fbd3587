"""The attention slot: how softmax(QKᵀ)V is computed in the UNet and the VAE."""

from core.optimization import Slot
from core.optimizations.attention.auto import AUTO
from core.optimizations.attention.doggettx import DOGGETTX
from core.optimizations.attention.invokeai import INVOKEAI
from core.optimizations.attention.none import NONE
from core.optimizations.attention.processor import optimization
from core.optimizations.attention.sdp import SDP
from core.optimizations.attention.sdp_no_mem import SDP_NO_MEM
from core.optimizations.attention.split_v1 import SPLIT_V1
from core.optimizations.attention.sub_quadratic import SUB_QUADRATIC
from core.optimizations.attention.xformers import XFORMERS

BACKENDS = (
    SDP,
    SDP_NO_MEM,
    XFORMERS,
    DOGGETTX,
    SUB_QUADRATIC,
    SPLIT_V1,
    INVOKEAI,
    NONE,
)

ATTENTION = Slot(
    name="attention",
    label="Attention",
    options=(*(optimization(backend) for backend in BACKENDS), AUTO),
    default=lambda platform: SDP.name,
)
