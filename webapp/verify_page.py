"""The page that makes a picture again from its receipt, and says whether it is the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from audit.calibration import gates_of
from audit.pictures import load_picture, pixels
from audit.rerun import rerun_job
from audit.verification import verification
from core import picture_file
from core.foreign_metadata import read_metadata, wrote
from core.models import native_size
from core.picture_file import FORMATS, PictureFile, Texts
from core.receipt import Receipt
from core.request import Model
from core.run import Run
from webapp import run_card, verify_card, visitors
from webapp.cli_verify import receipt_in, unproved
from webapp.comparer import SCRIPT
from webapp.jobs import QueueFull
from webapp.reruns import tidy
from webapp.services import Services
from webapp.shell import QUIET

LOOK = 0.15
"""Seconds between two looks at a job."""
_MOST_STEPS, _MOST_PICTURES = 100, 4


class VerifyPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._folder = services.reports / "reruns"
        gr.HTML(
            '<h1 class="sp-page-title">Verify a picture</h1><p class="sp-lead">It is made again '
            "from the receipt that it carries, in a process of its own, and compared bit by bit. "
            "What you put in is not listed anywhere and goes when the server stops.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=290):
                self.upload = gr.File(
                    label="A picture, of Seedproof or of another program: PNG, JPEG or WebP",
                    file_types=list(FORMATS),
                    type="filepath",
                    height=170,
                    elem_id="upload",
                )
                with gr.Row():
                    self.go = gr.Button(
                        "Make it again",
                        variant="primary",
                        size="lg",
                        elem_id="verify",
                        scale=3,
                        min_width=150,
                        interactive=False,
                    )
                    self.cancel = gr.Button(
                        "Cancel",
                        variant="stop",
                        size="lg",
                        elem_id="cancel",
                        scale=1,
                        min_width=90,
                        interactive=False,
                    )
            with gr.Column(scale=8, min_width=290):
                self.verdict = gr.HTML(
                    "", js_on_load=SCRIPT, apply_default_css=False, elem_id="proof"
                )
                self.receipt = gr.HTML(
                    verify_card.EMPTY, js_on_load=None, apply_default_css=False, elem_id="says"
                )
        self.visitor = gr.Textbox(visible=False)
        self.path = gr.State("")
        self.job = gr.State("")

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        seen = [self.receipt, self.verdict, self.path, self.go]
        self.upload.upload(self._put_in, self.upload, seen, **QUIET)
        self.upload.clear(lambda: (verify_card.EMPTY, "", "", _button(False)), None, seen, **QUIET)
        self.go.click(
            self._verify,
            [self.path, self.visitor],
            [self.verdict, self.job, self.go, self.cancel],
            **mine,
        )
        self.cancel.click(self._cancel, [self.job, self.visitor], self.cancel, **mine)
        page.load(self._opened, self.visitor, seen, **mine)

    async def _opened(self, secret: str, request: gr.Request) -> tuple[Any, ...]:
        """`?run=` names a picture of this database."""
        job_id = request.query_params.get("run", "")
        if not job_id:
            return (gr.skip(),) * 4
        asker = self._services.asker(request, secret)
        found = await asyncio.to_thread(self._services.generation, job_id, asker)
        path = found.run.pictures[0].path if found and found.run.pictures else None
        if path is None or not path.is_file():
            gone = "There is no such picture of yours, and none shared: put its file in instead."
            return verify_card.refused(gone), "", "", _button(False)
        return await self._put_in(str(path))

    async def _put_in(self, path: str) -> tuple[Any, ...]:
        """Say what the receipt says, or another program's text; only a receipt can go on."""
        try:
            card, proves = await asyncio.to_thread(_read, Path(path), self._services.model)
        except ValueError as error:
            return verify_card.refused(str(error)), "", "", _button(False)
        return card, "", path if proves else "", _button(proves)

    async def _verify(self, path: str, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        owner = self._services.asker(request, secret).owner
        try:
            file, receipt = await asyncio.to_thread(_file_and_receipt, Path(path))
            self._refuse_too_much(receipt)
            services = self._services
            job = await asyncio.to_thread(rerun_job, receipt, [services.model], services.platform)
            services.jobs.submit(job, owner, kept=False)
        except (ValueError, QueueFull) as error:
            yield verify_card.refused(str(error)), "", _button(True), _button(False)
            return
        shown = ""
        while (ticket := self._services.jobs.look(job.id)) is not None and not ticket.closed:
            stage = run_card.working(ticket)
            if stage != shown:
                yield stage, job.id, _button(False), _button(True)
                shown = stage
            await asyncio.sleep(LOOK)
        run = None if ticket is None else ticket.run
        if run is None or run.outcome != "ok":
            reason = "The rerun is gone: start it again." if ticket is None else ticket.reason
            card = verify_card.refused(reason)
        else:
            try:
                card = await asyncio.to_thread(self._judged, receipt, file, run, owner)
            except (ValueError, OSError) as error:
                card = verify_card.refused(f"The rerun cannot be compared: {error}.")
        yield card, "", _button(True), _button(False)

    def _judged(self, receipt: Receipt, file: PictureFile, run: Run, owner: str) -> str:
        again = run.pictures[receipt.position]
        array = pixels(again, load_picture)
        gates, _ = gates_of(again.request.model)
        found = verification(receipt, file, run, array, self._services.platform, gates)
        # The pixels alone: a browser need not fetch what somebody wrote into a file.
        shown = [
            picture_file.save(Image.fromarray(one), self._folder, Texts())
            for one in (file.pixels, array)
        ]
        for path in shown:
            self._services.give(path, owner)
        for picture in run.pictures:
            if picture.path is not None and picture.path.parent == self._folder:
                picture.path.unlink(missing_ok=True)
        tidy(self._folder)
        return verify_card.verdict_card(found, receipt, shown[0], shown[1])

    def _refuse_too_much(self, receipt: Receipt) -> None:
        """What the form of the first page could not ask for is left to the terminal."""
        side = 2 * native_size(self._services.model)
        most = _MOST_PICTURES * side**2 * _MOST_STEPS
        work = sum(r.width * r.height * r.num_inference_steps for r in receipt.requests)
        if work > most:
            raise ValueError(
                f"This picture's batch is more work ({work:,} pixels times steps) than a page may "
                f"ask for ({most:,}): use seedproof verify in a terminal."
            )

    def _cancel(self, job_id: str, secret: str, request: gr.Request) -> Any:
        self._services.jobs.cancel(job_id, self._services.asker(request, secret).owner)
        return _button(False)


def _file_and_receipt(path: Path) -> tuple[PictureFile, Receipt]:
    file = picture_file.read(path)
    return file, receipt_in(file, path.name)


def _read(path: Path, model: Model) -> tuple[str, bool]:
    """A card, and whether there is a receipt."""
    file = picture_file.read(path)
    if wrote(file.texts) and not file.texts.receipt:
        try:
            found = read_metadata(file.texts, model)
        except ValueError as error:
            raise ValueError(f"{path.name} {unproved(file.texts)} {error}") from error
        return verify_card.foreign_card(found, file, path.name), False
    return verify_card.receipt_card(receipt_in(file, path.name), file, path.name), True


def _button(interactive: bool) -> Any:
    return gr.Button(interactive=interactive)
