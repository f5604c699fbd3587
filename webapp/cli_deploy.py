"""`seedproof deploy`: assembles a Space, checks it, and pushes it to the Hub."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from webapp.terminal import BadInput, print_json, say, tell


def add_to(app: typer.Typer) -> None:
    app.command()(deploy)


def deploy(
    space_id: Annotated[str, typer.Argument(help="The Space: owner/name.")],
    token_from_env: Annotated[
        bool, typer.Option("--token-from-env", help="Take the token from HF_TOKEN alone.")
    ] = False,
    zero_gpu: Annotated[
        bool, typer.Option("--zero-gpu", help="For a Space on ZeroGPU: keep torch to what it has.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Assemble and check; push nothing.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where to assemble it; build/space by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Assemble a Hugging Face Space, check it, and push it."""
    from webapp.deployment import checked_space_id, push
    from webapp.space_folder import TARGET, assemble, pinned_gradio, problems, report

    checked_space_id(space_id)
    made = assemble(folder or TARGET, zero_gpu=zero_gpu)
    if found := problems(made.path, pinned_gradio(), zero_gpu=zero_gpu):
        raise BadInput(f"The Space is not pushed: {' '.join(found)}")
    tell(report(made))
    address = ""
    if not dry_run:
        message = f"Seedproof {made.commit}"
        address = push(_hub(), made.path, space_id, _token(token_from_env), message)
    if as_json:
        told = {"files": len(made.files), "bytes": made.bytes, "commit": made.commit}
        print_json({"space": space_id, "folder": made.path, "pushed": not dry_run, **told})
    else:
        say(f"pushed: {address}" if address else "nothing was pushed (--dry-run)")


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _token(from_environment: bool) -> str | None:
    """The variable's, or whatever `hf auth login` left."""
    from huggingface_hub import get_token

    return os.environ.get("HF_TOKEN") if from_environment else get_token()
