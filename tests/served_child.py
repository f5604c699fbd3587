"""The whole app on a real port, with a fake engine, behind a proxy that strips a path.

    python -m tests.served_child FOLDER PATH

Writes the address that the world sees, then reads how many steps the engine may take, a line each;
`0` closes the gate. A process of its own, because Gradio makes event loops that it never closes.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.browser_fixtures import free_port
from tests.test_rest import Server
from webapp.app import build
from webapp.server import open_doors

NOT_HANDED_ON = ("connection", "keep-alive", "transfer-encoding")


def main(folder: Path, path: str) -> None:
    server = Server(folder)
    app = build(server.services)
    behind, shown = free_port(), free_port()
    open_doors(app, server.services, host="127.0.0.1", port=behind, root_path=path)
    before = proxy(f"http://127.0.0.1:{behind}", path)
    config = uvicorn.Config(before, host="127.0.0.1", port=shown, log_level="warning")
    threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()
    print(f"shown at http://127.0.0.1:{shown}{path}", flush=True)
    for line in sys.stdin:
        steps = int(line)
        if steps:
            server.engine.gated.release(steps)
        else:
            server.engine.gated.gate = threading.Semaphore(0)


def proxy(behind: str, path: str) -> Starlette:
    """What nginx does with `location PATH/ { proxy_pass BEHIND/; }`, unbuffered."""
    client = httpx.AsyncClient(base_url=behind, timeout=60)

    async def forward(request: Request) -> StreamingResponse:
        stripped = request.url.path.removeprefix(path)
        asked = client.build_request(
            request.method,
            httpx.URL(path=stripped, query=request.url.query.encode()),
            headers=[(k, v) for k, v in request.headers.items() if k not in NOT_HANDED_ON],
            content=request.stream() if request.method == "POST" else None,
        )
        answer = await client.send(asked, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for part in answer.aiter_raw():
                    yield part
            except asyncio.CancelledError:
                # Who asked has left; whoever is behind hears of it.
                await answer.aclose()
                raise
            await answer.aclose()

        kept = {k: v for k, v in answer.headers.items() if k not in NOT_HANDED_ON}
        return StreamingResponse(body(), status_code=answer.status_code, headers=kept)

    methods = ["GET", "POST", "DELETE", "HEAD"]
    return Starlette(routes=[Route(f"{path}/{{rest:path}}", forward, methods=methods)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
