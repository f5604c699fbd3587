"""Verifying: a rerun gives a verdict, and a reason for whatever is not the same."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.pictures import load_picture
from audit.rerun import rerun_job
from audit.verification import Verification, verification
from core.diffusion import DiffusersEngine
from core.infotext import infotext
from core.models import resolve
from core.optimization import Configuration, Optimization
from core.optimizations import OPTIMIZATIONS, availability, configure
from core.picture_file import Texts, copy, encoded, read, save
from core.platforms import Platform, detect
from core.receipt import Receipt, dump, load, receipt_of
from core.request import Conditions, Following, Job, Model, Request
from core.run import Effective, Run, SlotEffect
from core.samplers import SAMPLERS
from core.worker import open_worker
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeEngine
from webapp.cli import main

STEPS = 3
REQUESTS = tuple(
    Request(
        prompt="a panda", model=MODEL, seed=seed, width=64, height=64, num_inference_steps=STEPS
    )
    for seed in (1, 2)
)
JOB = Job(id="job", requests=REQUESTS, configuration=Configuration((("attention", "sdp"),)))

Edit = Callable[[np.ndarray[Any, Any]], object]


def made(folder: Path, run: Run | None = None, position: int = 1) -> tuple[Receipt, Path]:
    """A picture of a fake run with its receipt, as the engine would have written it."""
    run = run or FakeEngine(pictures=folder).run(JOB, Following())
    picture = run.pictures[position]
    receipt = receipt_of(run.job, position, picture, run.effective, run.environment, PLATFORM)
    texts = Texts(
        infotext=infotext(picture.request, run.job.configuration, run.effective),
        receipt=dump(receipt),
    )
    assert picture.path is not None
    return receipt, save(Image.open(picture.path), folder, texts)


def edited(path: Path, edit: Edit) -> Path:
    """The picture with other pixels and the same texts."""
    file = read(path)
    pixels = file.pixels.copy()
    changed = edit(pixels)
    image = Image.fromarray(changed if isinstance(changed, np.ndarray) else pixels)
    path.with_name("edited.png").write_bytes(encoded(image, "PNG", file.texts))
    return path.with_name("edited.png")


def judged(
    receipt: Receipt,
    path: Path,
    folder: Path,
    behaviours: dict[str, Behaviour] | None = None,
    change: Callable[[Run], Run] = lambda run: run,
    platform: Platform = PLATFORM,
    job: Job = JOB,
) -> Verification:
    engine = FakeEngine(pictures=folder, behaviours=behaviours or {})
    run = change(engine.run(job, Following()))
    pixels = load_picture(run.pictures[receipt.position].path or Path())
    return verification(receipt, read(path), run, pixels, platform)


# What a rerun says


def test_a_picture_that_is_what_it_says(tmp_path: Path) -> None:
    found = judged(*made(tmp_path), tmp_path)
    assert found.verdict == "bit-exact"
    assert found.reasons == (
        "The rerun has every bit that the receipt names: noise, 3 steps, final latents and pixels.",
    )
    assert found.reproduced
    assert found.intact
    assert found.metrics["max_abs"] == 0


@pytest.mark.parametrize("levels", [1, 7])
def test_one_edited_pixel_is_found(tmp_path: Path, levels: int) -> None:
    def edit(pixels: np.ndarray[Any, Any]) -> None:
        pixels[5, 9, 0] += levels

    receipt, path = made(tmp_path)
    found = judged(receipt, edited(path, edit), tmp_path)
    assert found.verdict == ("rounding" if levels == 1 else "perceptually-identical")
    assert found.intact is False
    assert found.reproduced
    assert found.edit is not None
    assert (found.edit.pixels, found.edit.left, found.edit.top) == (1, 9, 5)
    assert found.reasons[1] == (
        "The file was edited after it was made: 1 of 4,096 pixels differ, at column 9, row 5 "
        f"(from 0), by at most {levels} of 255 levels."
    )


def test_an_edited_region_has_a_box(tmp_path: Path) -> None:
    def edit(pixels: np.ndarray[Any, Any]) -> None:
        pixels[10:20, 30:33] ^= 255

    receipt, path = made(tmp_path)
    found = judged(receipt, edited(path, edit), tmp_path)
    assert "30 of 4,096 pixels differ, in columns 30 to 32, rows 10 to 19" in found.reasons[1]


def test_an_edit_is_noticed_where_the_original_cannot_be_made(tmp_path: Path) -> None:
    def edit(pixels: np.ndarray[Any, Any]) -> None:
        pixels[0, 0] ^= 255

    receipt, path = made(tmp_path)
    found = judged(receipt, edited(path, edit), tmp_path, {"attention=sdp": Behaviour(levels=2)})
    assert found.intact is False
    assert found.edit is None
    assert "Which ones cannot be told" in found.reasons[1]


def test_a_cropped_file_is_told_as_one(tmp_path: Path) -> None:
    receipt, path = made(tmp_path)
    found = judged(receipt, edited(path, lambda pixels: pixels[:32, :48].copy()), tmp_path)
    assert found.verdict == "different"
    assert found.metrics == {}
    assert "The file has 48 × 32 pixels and the picture had 64 × 64" in found.reasons[1]


def test_a_jpeg_is_compared_by_its_look_and_says_so(tmp_path: Path) -> None:
    receipt, path = made(tmp_path)
    copy(path, tmp_path / "copy.jpg")
    found = judged(receipt, tmp_path / "copy.jpg", tmp_path)
    assert found.verdict not in {"bit-exact", "different"}
    assert found.reproduced
    assert found.intact is None
    assert "lossy JPEG" in found.reasons[1]


def test_a_webp_of_ours_is_bit_exact(tmp_path: Path) -> None:
    receipt, path = made(tmp_path)
    copy(path, tmp_path / "copy.webp")
    assert judged(receipt, tmp_path / "copy.webp", tmp_path).verdict == "bit-exact"


# Why not


def other_place(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: dataclasses.replace(
        run, environment=dataclasses.replace(run.environment, **changes)
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_place(threads=7), "threads: 2 when the picture was made, 7 here."),
        (other_place(device="cuda:0"), "device: cpu when the picture was made, cuda:0 here."),
        (other_place(instruction_set="AVX2"), "instruction set: FAKE when"),
        (other_place(versions={"torch": "9"}), "torch: 0 when the picture was made, 9 here."),
        (other_place(versions={}), "torch: 0 when the picture was made, not installed here."),
        (other_place(process="exec"), "process: this one when the picture was made, exec'd here"),
        (other_place(calls_before=3), "jobs done before in the process: 0 when"),
        (
            lambda run: dataclasses.replace(
                run, job=dataclasses.replace(run.job, requests=REQUESTS[1:])
            ),
            "batch: 2 together when the picture was made, 1 together here.",
        ),
        (
            lambda run: dataclasses.replace(
                run, job=dataclasses.replace(run.job, requests=REQUESTS[1:] * 2)
            ),
            "batch: with its neighbours when the picture was made, with other neighbours here.",
        ),
        (
            lambda run: dataclasses.replace(
                run,
                effective=Effective(
                    slots=(
                        SlotEffect(
                            slot="attention",
                            requested="sdp",
                            effect="fell-back",
                            reason="no such kernel",
                        ),
                    )
                ),
            ),
            "what attention=sdp did: applied when the picture was made, fell-back here.",
        ),
    ],
)
def test_what_is_not_the_same_is_named_as_a_possible_cause(
    tmp_path: Path, change: Callable[[Run], Run], reason: str
) -> None:
    behaviours = {"attention=sdp": Behaviour(levels=1)}
    found = judged(*made(tmp_path), tmp_path, behaviours, change)
    assert found.verdict == "rounding"
    assert not found.reproduced
    (cause,) = (r for r in found.reasons if r.startswith("Possible cause: "))
    assert reason in cause


def test_another_gpu_and_another_version_of_ours_are_named(tmp_path: Path) -> None:
    receipt, path = made(tmp_path)
    receipt = dataclasses.replace(receipt, program="Seedproof 0.0.1", device_name="a fast GPU")
    found = judged(receipt, path, tmp_path, {"attention=sdp": Behaviour(levels=1)})
    assert [difference.what for difference in found.differences] == ["device name", "program"]


def test_differences_are_no_excuse_where_the_bits_agree(tmp_path: Path) -> None:
    found = judged(*made(tmp_path), tmp_path, change=other_place(threads=7))
    assert found.verdict == "bit-exact"
    assert found.differences
    assert not any("cause" in reason for reason in found.reasons)


def test_where_nothing_differs_and_the_bits_do_it_says_so(tmp_path: Path) -> None:
    found = judged(*made(tmp_path), tmp_path, {"attention=sdp": Behaviour(levels=30)})
    assert found.verdict not in {"bit-exact", "rounding"}
    assert found.first_differing_step == 2
    assert found.reasons[0] == "The rerun first parts from the receipt at step 2 of 3."
    assert found.reasons[1].startswith("Nothing that the receipt records differs here")


def picture_changed(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: dataclasses.replace(
        run, pictures=tuple(dataclasses.replace(p, **changes) for p in run.pictures)
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"noise_sha256": "0", "latents_sha256": "0"}, "The initial noise differs already"),
        ({"latents_sha256": "0", "step_sha256s": ()}, "does not say from which step, and still"),
        ({"step_sha256s": ("0",) * STEPS}, "and other noise or steps than it names"),
    ],
)
def test_where_the_rerun_parts(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    found = judged(*made(tmp_path), tmp_path, change=picture_changed(**change))
    assert found.verdict == "bit-exact"
    assert sentence in found.reasons[0]


def test_only_decoding_differs(tmp_path: Path) -> None:
    receipt, path = made(tmp_path)
    receipt = dataclasses.replace(receipt, pixels_sha256="0" * 64)
    assert "only their decoding" in judged(receipt, path, tmp_path).reasons[0]


def test_a_setting_that_does_nothing_here_is_told(tmp_path: Path) -> None:
    idle = SlotEffect(slot="min-sigma", requested="all:0", effect="none", reason="no step is below")
    found = judged(
        *made(tmp_path),
        tmp_path,
        change=lambda run: dataclasses.replace(run, effective=Effective(slots=(idle,))),
    )
    assert found.reasons[-1] == "min-sigma=all:0 had no effect in the rerun: no step is below."


# What is rerun


def receipt_on(model: Model, **changes: Any) -> Receipt:
    job = dataclasses.replace(
        JOB,
        requests=tuple(dataclasses.replace(r, model=model) for r in REQUESTS),
        configuration=changes.pop("configuration", JOB.configuration),
    )
    run = FakeEngine().run(job, Following())
    receipt = receipt_of(job, 1, run.pictures[1], run.effective, run.environment, PLATFORM)
    environment = dataclasses.replace(receipt.environment, **changes)
    return dataclasses.replace(receipt, environment=environment)


@pytest.fixture
def tiny(tiny_model_path: Path) -> Model:
    return resolve(str(tiny_model_path), Path("unused"))


def test_the_job_is_the_batch_under_its_own_conditions(tiny: Model) -> None:
    receipt = receipt_on(tiny, threads=1, process="forked")
    job = rerun_job(receipt, [MODEL, tiny], PLATFORM)
    assert [request.seed for request in job.requests] == [1, 2]
    assert {request.model for request in job.requests} == {tiny}
    assert job.configuration == receipt.configuration
    assert job.conditions == Conditions(threads=1, process="forked")
    assert job.capture_steps


@pytest.mark.parametrize(("threads", "asked"), [(0, None), (2, None), (8, 8), (9, None)])
def test_threads_are_the_pictures_own_where_there_are_cores(
    tiny: Model, threads: int, asked: int | None
) -> None:
    assert rerun_job(receipt_on(tiny, threads=threads), [tiny], PLATFORM).conditions == Conditions(
        threads=asked, process="exec"
    )


@pytest.mark.parametrize(
    ("made", "here", "limited"),
    [
        ("AVX2", "AVX512", "AVX2"),
        ("AVX512", "AVX2", None),
        ("AVX2", "AVX2", None),
        ("X", "Y", None),
    ],
)
def test_a_smaller_instruction_set_is_gone_back_to(
    tiny: Model, made: str, here: str, limited: str | None
) -> None:
    receipt = receipt_on(tiny, instruction_set=made, process="forked")
    platform = dataclasses.replace(PLATFORM, instruction_set=here)
    conditions = rerun_job(receipt, [tiny], platform).conditions
    assert conditions.instruction_set == limited
    assert conditions.process == ("exec" if limited else "forked")


def test_a_missing_model_is_named_by_its_digest(tiny: Model) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+--model\.$") as refused:
        rerun_job(receipt_on(tiny), [MODEL], PLATFORM)
    assert tiny.digest in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((("attention", "xformers"),), "attention=xformers, which cannot run here: "),
        ((("attention", "flash-9"),), "attention has no option 'flash-9'"),
        ((("magic", "on"),), "There is no setting 'magic'"),
    ],
)
def test_settings_that_are_not_here_are_named(
    tiny: Model, settings: tuple[tuple[str, str], ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as refused:
        rerun_job(receipt_on(tiny, configuration=Configuration(settings)), [tiny], PLATFORM)
    assert sentence in str(refused.value)


# The real thing


def again(receipt: Receipt, path: Path, model: Model, folder: Path) -> Verification:
    """Rerun in an engine that has done nothing before."""
    platform = detect("cpu")
    job = rerun_job(receipt, [model], platform)
    assert receipt.picture.step_sha256s
    plain = dataclasses.replace(job, conditions=dataclasses.replace(job.conditions, threads=None))
    run = DiffusersEngine(platform, folder).run(plain, Following())
    assert run.outcome == "ok", run.reason
    pixels = load_picture(run.pictures[receipt.position].path or Path())
    return verification(receipt, read(path), run, pixels, platform)


def options() -> list[Optimization]:
    """Without those that take weights which the tiny model has not: `tests.test_enlarging` has one
    that has them."""
    platform = detect("cpu")
    found = [option for option in OPTIMIZATIONS if availability(option, platform) is None]
    return [option for option in found if option.lacks is None]


COMBINATIONS = [
    *({option.slot: option.name} for option in options()),
    {"token-merging": "0.5", "min-sigma": "all:15", "precision": "bf16", "attention": "none"},
    {"token-merging": "as-shipped:0.75", "min-sigma": "alternate:15"},
]


@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda settings: "+".join(settings.values()))
def test_a_picture_of_every_available_option_verifies_bit_exact(
    settings: dict[str, str], tiny: Model, tmp_path: Path
) -> None:
    made_and_again(settings, "Euler", tiny, tmp_path)


@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
def test_a_picture_of_every_sampler_verifies_bit_exact(
    sampler: str, tiny: Model, tmp_path: Path
) -> None:
    made_and_again({"min-sigma": "all:1"}, sampler, tiny, tmp_path)


def made_and_again(settings: dict[str, str], sampler: str, tiny: Model, tmp_path: Path) -> None:
    platform = detect("cpu")
    requests = tuple(dataclasses.replace(r, model=tiny, sampler=sampler) for r in REQUESTS)
    job = Job(id="job", requests=requests, configuration=configure(settings, platform))
    # Another process has another global generator; so has this part of the test.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        run = DiffusersEngine(platform, tmp_path).run(job, Following())
    assert run.outcome == "ok", run.reason
    path = run.pictures[1].path or Path()
    receipt = load(read(path).texts.receipt)
    with torch.random.fork_rng(devices=[]):
        found = again(receipt, path, tiny, tmp_path / "rerun")
    assert found.verdict == "bit-exact", found.reasons
    assert found.reproduced
    assert found.reasons[0].startswith("The rerun has every bit")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["verify", *arguments])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


@pytest.mark.slow
def test_the_command_reruns_in_a_process_of_its_own(
    tiny: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = detect("cpu")
    requests = tuple(dataclasses.replace(request, model=tiny) for request in REQUESTS)
    configuration = configure({"token-merging": "as-shipped:0.5"}, platform)
    job = Job(id="job", requests=requests, configuration=configuration)
    worker = open_worker(
        Conditions(threads=1), platform, pictures=tmp_path, lease_folder=tmp_path / "leases"
    )
    try:
        run = worker.run(job, Following())
    finally:
        worker.close()
    path = run.pictures[1].path or Path()
    model = ("--model", str(tiny.path))
    code, out, _ = call(capsys, str(path), *model, "--json")
    document = json.loads(out)
    assert (code, document["verdict"], document["passed"]) == (0, "bit-exact", True)
    assert document["reasons"][0].startswith("The rerun has every bit")
    assert document["metrics"]["ssim"] == 1

    def edit(pixels: np.ndarray[Any, Any]) -> None:
        pixels[1, 2] ^= 128

    changed = edited(path, edit)
    code, out, _ = call(capsys, str(changed), *model)
    assert code == 1
    assert "1 of 4,096 pixels differ, at column 2, row 1" in out
    assert call(capsys, str(changed), *model, "--require", "different")[0] == 0


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (None, "not a whole PNG"),
        (Texts(), "carries no receipt"),
        (Texts(infotext="a cat\nSteps: 20, Sampler: Euler a"), "AUTOMATIC1111's web UI"),
        (Texts(receipt="{}"), "schema is 'None'"),
        (Texts(receipt=dump(receipt_on(MODEL))), "f" * 64),
    ],
)
def test_what_cannot_be_verified_is_one_line_and_exit_code_2(
    texts: Texts | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x" if texts is None else encoded(Image.new("RGB", (64, 64)), "PNG", texts))
    code, out, err = call(capsys, str(path), "--json")
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("seedproof: ")
    assert err.count("\n") == 1


def test_an_unknown_level_and_a_missing_file_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (("x.png", "--require", "nearly"), "Unknown level 'nearly': choose one of bit-exact"),
        ((str(tmp_path / "none.png"),), "none.png cannot be read"),
    ):
        code, out, err = call(capsys, *arguments)
        assert (code, out) == (2, "")
        assert sentence in err
