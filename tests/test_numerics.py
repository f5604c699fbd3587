"""Global switches: read inside the calls, meaningless where their device is not, and put back."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core import optimizations
from core.optimization import Optimization
from core.optimizations import OPTIMIZATIONS, applied, availability
from core.optimizations.numerics import everywhere, in_float32_on_cuda, on_cuda, patched
from core.platforms import Platform, detect
from core.record import Record
from core.run import SlotEffect
from tests.tiny_run import tiny_job, tiny_run

ON_GPUS = [option for option in OPTIMIZATIONS if option.needs & {"tf32", "cudnn"}]
on_gpus = pytest.mark.parametrize("option", ON_GPUS, ids=lambda o: f"{o.slot}={o.name}")


def effect_of(pipeline: StableDiffusionPipeline, slot: str, value: str) -> SlotEffect:
    job = tiny_job(**{slot.replace("-", "_"): value})
    effect = tiny_run(pipeline, job).effective.slot(slot)
    assert effect is not None
    return effect


@on_gpus
def test_switches_of_gpus_are_refused_on_a_cpu_and_offered_where_they_act(
    option: Optimization,
) -> None:
    here = detect("cpu")
    assert "needs a" in (availability(option, here) or "")
    (need,) = option.needs
    there = replace(here, capabilities={**here.capabilities, need: None})
    assert availability(option, there) is None


@pytest.mark.parametrize(
    ("slot", "value", "read", "expected"),
    [
        ("tf32", "on", lambda: torch.backends.cuda.matmul.allow_tf32, True),
        ("tf32", "on", lambda: torch.backends.cudnn.allow_tf32, True),
        ("tf32", "never", lambda: torch.backends.cuda.matmul.allow_tf32, False),
        ("tf32", "never", lambda: torch.backends.cudnn.allow_tf32, False),
        ("cudnn-benchmark", "on", lambda: torch.backends.cudnn.benchmark, True),
        ("cudnn-deterministic", "on", lambda: torch.backends.cudnn.deterministic, True),
        ("deterministic-algorithms", "strict", torch.get_deterministic_debug_mode, 2),
        ("deterministic-algorithms", "warn", torch.get_deterministic_debug_mode, 1),
        ("threads", "pinned:1", torch.get_num_threads, 1),
        ("threads", "pinned:3", torch.get_num_threads, 3),
    ],
)
def test_the_switch_stands_in_every_layer_of_the_unet_and_the_vae(
    shared_pipeline: StableDiffusionPipeline,
    slot: str,
    value: str,
    read: Callable[[], object],
    expected: object,
) -> None:
    seen: Counter[object] = Counter()
    layers = (shared_pipeline.unet.conv_out, shared_pipeline.vae.decoder.conv_out)
    handles = [layer.register_forward_hook(lambda *_: seen.update([read()])) for layer in layers]
    try:
        effect = effect_of(shared_pipeline, slot, value)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == {expected: 3}
    assert sum(n for name, n in effect.counts.items() if name.startswith(("unet", "vae"))) == 3


@pytest.mark.parametrize(
    ("stands", "acts", "effect", "words"),
    [
        (lambda: True, everywhere, "applied", ""),
        (lambda: False, everywhere, "fell-back", "3 of 3 calls ran without it"),
        (lambda: True, on_cuda, "none", "cudnn computes nothing on cpu"),
        (lambda: True, in_float32_on_cuda, "none", "there is no TF32 on cpu"),
    ],
)
def test_the_effect_follows_from_what_was_read(
    shared_pipeline: StableDiffusionPipeline,
    monkeypatch: pytest.MonkeyPatch,
    stands: Callable[[], bool],
    acts: Callable[[torch.Tensor], str | None],
    effect: str,
    words: str,
) -> None:
    option = Optimization(
        slot="cudnn-benchmark",
        name="on",
        summary="",
        patch=partial(patched, "cudnn-benchmark", stands, acts),
    )
    monkeypatch.setattr(optimizations, "chosen", lambda configuration: ((option, None),))
    seen = effect_of(shared_pipeline, "cudnn-benchmark", "on")
    assert (seen.effect, words in seen.reason) == (effect, True)


def test_half_precision_leaves_nothing_to_tf32() -> None:
    class OnCuda:
        device = torch.device("cuda")
        dtype = torch.float16

    assert "float16" in (in_float32_on_cuda(OnCuda()) or "")  # type: ignore[arg-type]
    OnCuda.dtype = torch.float32
    assert in_float32_on_cuda(OnCuda()) is None  # type: ignore[arg-type]
    assert on_cuda(OnCuda()) is None  # type: ignore[arg-type]


def test_without_a_call_there_is_no_effect(shared_pipeline: StableDiffusionPipeline) -> None:
    record = Record()
    job = tiny_job(deterministic_algorithms="strict", threads="pinned:1")
    with applied(shared_pipeline, job, record):
        pass
    assert {(slot.effect, bool(slot.reason)) for slot in record.freeze().slots} == {("none", True)}


def test_an_operator_without_a_deterministic_version_stops_the_run(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    with (
        pytest.raises(RuntimeError, match="does not have a deterministic implementation"),
        applied(shared_pipeline, tiny_job(deterministic_algorithms="strict"), Record()),
    ):
        torch.nn.functional.max_unpool1d(torch.ones(1, 1, 1), torch.zeros(1, 1, 1).long(), 2)
    assert torch.get_deterministic_debug_mode() == 0


def test_threads_that_were_changed_inside_are_found_out(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    before = torch.get_num_threads()
    layer = shared_pipeline.unet.time_proj
    handle = layer.register_forward_pre_hook(lambda *_: torch.set_num_threads(3))
    try:
        effect = effect_of(shared_pipeline, "threads", "pinned:1")
    finally:
        handle.remove()
    assert effect.effect == "fell-back"
    assert "unet_calls_with_3_threads" in effect.reason
    assert torch.get_num_threads() == before


def test_old_cublas_is_a_reason_that_says_what_to_set(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> None:
        raise RuntimeError("not deterministic: set CUBLAS_WORKSPACE_CONFIG=:4096:8 and …\nmore")

    monkeypatch.setattr(torch.Tensor, "__matmul__", refusing)
    (strict,) = (option for option in OPTIMIZATIONS if option.name == "strict")
    assert availability(strict, platform) == (
        "needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment that the program is started in"
    )
    assert torch.get_deterministic_debug_mode() == 0


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@on_gpus
def test_switches_act_on_a_gpu(
    tiny_pipeline: StableDiffusionPipeline, option: Optimization
) -> None:
    if reason := availability(option, detect()):
        pytest.skip(reason)
    job = tiny_job(**{option.slot.replace("-", "_"): option.name})
    record = Record()
    pipeline = tiny_pipeline.to("cuda")
    with torch.no_grad(), applied(pipeline, job, record):
        latents = torch.zeros(1, 4, 16, 16, device="cuda")
        pipeline.unet(latents, 500, torch.zeros(1, 77, 32, device="cuda"))
    effect = record.freeze().slot(option.slot)
    assert effect is not None
    assert effect.effect == "applied", effect.reason
