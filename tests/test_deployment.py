"""`seedproof deploy` against a Hub that writes down what it was asked, and refuses when told to."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from webapp import cli_deploy
from webapp.cli import main
from webapp.deployment import push

TOKEN = "hf_not-a-real-token"


class FakeHub:
    """Takes what the real one takes. Raises `error` in the call of that name."""

    def __init__(self, error: Exception | None = None, where: str = "upload_folder") -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._error, self._where = error, where

    def _called(self, name: str, **told: Any) -> None:
        inspect.signature(getattr(HfApi, name)).bind(self, **told)
        self.calls.append((name, told))
        if self._error is not None and name == self._where:
            raise self._error

    def whoami(self, **told: Any) -> dict[str, Any]:
        self._called("whoami", **told)
        return {"name": "somebody"}

    def create_repo(self, repo_id: str, **told: Any) -> None:
        self._called("create_repo", repo_id=repo_id, **told)

    def upload_folder(self, **told: Any) -> None:
        self._called("upload_folder", **told)


def refusal(status: int, message: str = "") -> HfHubHTTPError:
    response = httpx.Response(status, request=httpx.Request("POST", "https://hub.test/api"))
    return HfHubHTTPError(f"{status} {message}", response=response, server_message=message or None)


def test_it_makes_the_space_and_replaces_its_files(tmp_path: Path) -> None:
    hub = FakeHub()
    address = push(hub, tmp_path, "somebody/seedproof", TOKEN, "why")
    assert address == "https://huggingface.co/spaces/somebody/seedproof (as somebody)"
    (_, (_, created), (_, uploaded)) = hub.calls
    assert [name for name, _ in hub.calls] == ["whoami", "create_repo", "upload_folder"]
    assert created["repo_id"] == "somebody/seedproof"
    assert (created["repo_type"], created["space_sdk"], created["exist_ok"]) == (
        "space",
        "gradio",
        True,
    )
    assert (uploaded["folder_path"], uploaded["repo_type"]) == (tmp_path, "space")
    assert uploaded["delete_patterns"] == ["*"]
    assert {told["token"] for _, told in hub.calls} == {TOKEN}


NOT_FOUND = RepositoryNotFoundError(
    "404", response=httpx.Response(404, request=httpx.Request("GET", "https://hub.test"))
)


@pytest.mark.parametrize(
    ("error", "where", "sentence"),
    [
        (refusal(401), "whoami", "does not know this token"),
        (refusal(403), "create_repo", "may not write to somebody/seedproof: use one of somebody"),
        (refusal(403), "upload_folder", "may not write to somebody/seedproof"),
        (NOT_FOUND, "upload_folder", "may not write to somebody/seedproof"),
        (refusal(402, f"Pay first\nfor {TOKEN}"), "create_repo", "refused the Space"),
        (refusal(400, f"bad {TOKEN}"), "create_repo", "bad …"),
        (httpx.ConnectError("no route"), "whoami", "cannot be reached (ConnectError)"),
        (httpx.ReadTimeout("slow"), "upload_folder", "cannot be reached (ReadTimeout)"),
        (OfflineModeIsEnabled("offline"), "whoami", "HF_HUB_OFFLINE is set"),
    ],
)
def test_every_failure_is_one_sentence_without_the_token(
    tmp_path: Path, error: Exception, where: str, sentence: str
) -> None:
    hub = FakeHub(error, where)
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        push(hub, tmp_path, "somebody/seedproof", TOKEN, "why")
    said = str(refused.value)
    assert "\n" not in said
    assert TOKEN not in said


def run(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, *arguments: str) -> int:
    monkeypatch.setattr(cli_deploy, "_hub", lambda: hub)
    with pytest.raises(SystemExit) as ended:
        main(["deploy", *arguments])
    return int(ended.value.code or 0)


def test_a_dry_run_pushes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    folder = ("--folder", str(tmp_path / "space"))
    assert run(monkeypatch, hub, "somebody/seedproof", "--dry-run", "--json", *folder) == 0
    assert hub.calls == []
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["pushed"] is False
    assert document["files"] > 100
    assert " MB" in told.err


def test_the_terminal_pushes_with_the_environments_token_and_shows_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    arguments = ("somebody/seedproof", "--token-from-env", "--folder", str(tmp_path / "space"))
    assert run(monkeypatch, hub, *arguments) == 0
    assert {told["token"] for _, told in hub.calls} == {TOKEN}
    told = capfd.readouterr()
    assert "pushed: https://huggingface.co/spaces/somebody/seedproof" in told.out
    assert TOKEN not in told.out + told.err


def test_without_a_token_it_says_where_one_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    arguments = ("somebody/seedproof", "--token-from-env", "--folder", str(tmp_path / "space"))
    assert run(monkeypatch, hub, *arguments) == 2
    assert hub.calls == []
    assert "No token of the Hub: make one that may write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["seedproof", "a/b/c", "../b", "a/..", "/b", "a/", "a b/c", "ä/b", "a/" + "x" * 200]
)
def test_what_is_no_space_is_said_before_anything_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    assert run(monkeypatch, hub, name) == 2
    assert hub.calls == []
    assert "A Space is named owner/name" in capsys.readouterr().err
