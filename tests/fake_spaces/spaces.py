"""A fake of the package `spaces` on ZeroGPU: calls run in a forked process, everything is pickled.

As in spaces 0.51.3: `duration` is a number or is asked with the call's own arguments; a process
serves further calls while it lives; a generator's values arrive one by one, and where it is closed
it ends at its next yield. There is no GPU, and none is emulated.
"""

import inspect
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import gradio
import psutil
from gradio.context import LocalContext

FORK = multiprocessing.get_context("fork")
LOG: list[dict[str, Any]] = []
"""Of every call: the function, the seconds asked for, and the header that quotas go by."""
REFUSALS: list[str] = []
"""What the next calls are refused with."""


def GPU(*, duration: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: N802
    return lambda task: _decorated(task, duration)


def gradio_auto_wrap(task: Any) -> Any:
    """Gradio asks for every event; nothing is wrapped unless a Space's variable says so."""
    return task


def _decorated(task: Callable[..., Any], duration: Any) -> Callable[..., Any]:
    workers: list[tuple[Any, Any, Any]] = []
    many = inspect.isgeneratorfunction(task)

    def begun(arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        seconds = duration(*arguments) if callable(duration) else duration
        request = LocalContext.request.get(None)
        token = request.headers.get("x-ip-token") if request else None
        LOG.append({"task": task.__name__, "seconds": seconds, "token": token})
        if REFUSALS:
            raise gradio.Error(REFUSALS.pop(), print_exception=False)
        if not (workers and workers[0][0].is_alive()):
            ours, theirs = FORK.Pipe()
            stop = FORK.Event()
            process = FORK.Process(target=_serve, args=(task, many, theirs, stop), daemon=True)
            process.start()
            theirs.close()
            workers[:] = [(process, ours, stop)]
        workers[0][2].clear()
        workers[0][1].send(arguments)
        return workers[0]

    def heard(connection: Any) -> tuple[str, Any]:
        try:
            kind, value = connection.recv()
        except EOFError:
            workers.clear()
            raise gradio.Error("GPU task aborted", print_exception=False) from None
        if kind == "error":
            raise gradio.Error(value, print_exception=False)
        return kind, value

    def called(*arguments: Any) -> Any:
        _, connection, _ = begun(arguments)
        return heard(connection)[1]

    def iterated(*arguments: Any) -> Any:
        _, connection, stop = begun(arguments)
        while True:
            kind, value = heard(connection)
            if kind == "end":
                return
            try:
                yield value
            except GeneratorExit:
                stop.set()
                while heard(connection)[0] != "end":
                    pass
                raise

    return iterated if many else called


def _serve(task: Callable[..., Any], many: bool, connection: Any, stop: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A copy of a browser's connection would keep it open after the server has closed it.
    for one in psutil.Process().net_connections("tcp"):
        os.close(one.fd)
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            if many:
                values = task(*arguments)
                for value in values:
                    if stop.is_set():
                        values.close()
                        break
                    connection.send(("value", value))
                connection.send(("end", None))
            else:
                connection.send(("value", task(*arguments)))
        except Exception as error:
            connection.send(("error", type(error).__name__))
