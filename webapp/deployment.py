"""Pushes an assembled folder to a Space of the Hub, and says in one sentence why it could not."""

import re
from pathlib import Path
from typing import Any, Protocol

import httpx
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

_SPACE_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
TOKEN_PAGE = "https://huggingface.co/settings/tokens"


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def whoami(self, token: str) -> dict[str, Any]: ...

    def create_repo(
        self, repo_id: str, *, token: str, repo_type: str, space_sdk: str, exist_ok: bool
    ) -> Any: ...

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: Path,
        commit_message: str,
        token: str,
        repo_type: str,
        delete_patterns: list[str],
    ) -> Any: ...


def checked_space_id(space_id: str) -> str:
    """Raises ValueError where it is no `owner/name`."""
    if not _SPACE_ID.fullmatch(space_id) or ".." in space_id or "--" in space_id:
        raise ValueError(f"A Space is named owner/name, as in its address, not {space_id[:80]!r}.")
    return space_id


def push(hub: Hub, folder: Path, space_id: str, token: str | None, message: str) -> str:
    """Make the Space where there is none, replace its files, and return its address.

    Raises ValueError with one sentence; the token is in none of them.
    """
    if not token:
        raise ValueError(
            f"No token of the Hub: make one that may write at {TOKEN_PAGE}, then run "
            "'hf auth login', or set HF_TOKEN and add --token-from-env."
        )
    owner = space_id.partition("/")[0]
    try:
        who = str(hub.whoami(token=token).get("name", "unknown"))
        hub.create_repo(space_id, token=token, repo_type="space", space_sdk="gradio", exist_ok=True)
        hub.upload_folder(
            repo_id=space_id,
            folder_path=folder,
            commit_message=message,
            token=token,
            repo_type="space",
            # What an earlier version had and this one has not would stay and be imported.
            delete_patterns=["*"],
        )
    except OfflineModeIsEnabled as error:
        raise ValueError("HF_HUB_OFFLINE is set: unset it to deploy.") from error
    except RepositoryNotFoundError as error:
        raise ValueError(_no_right(space_id, owner)) from error
    except HfHubHTTPError as error:
        raise ValueError(_refused(error, space_id, owner).replace(token, "…")) from error
    except (httpx.TransportError, OSError) as error:
        raise ValueError(
            f"The Hub cannot be reached ({type(error).__name__}): check the network and try again; "
            "what was not pushed is pushed then."
        ) from error
    return f"https://huggingface.co/spaces/{space_id} (as {who})"


def _refused(error: HfHubHTTPError, space_id: str, owner: str) -> str:
    status = error.response.status_code if error.response is not None else 0
    if status == 401:
        return f"The Hub does not know this token: make a new one at {TOKEN_PAGE}."
    if status == 403:
        return _no_right(space_id, owner)
    said = str(error.server_message or f"status {status}").splitlines()[0]
    return f"The Hub refused the Space {space_id} ({said}): correct that, and deploy again."


def _no_right(space_id: str, owner: str) -> str:
    return (
        f"This token may not write to {space_id}: use one of {owner} with write permission from "
        f"{TOKEN_PAGE}, or deploy to a Space of your own."
    )
