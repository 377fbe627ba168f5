"""The browser's face: serves a page on which each visitor with its address plays.

worldmodel play RUN --view browser            prints the address
ssh -L 8000:localhost:8000 THERE              before that, where RUN is on another machine
"""

import html
import secrets
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.player import Playable, new_player
from worldmodel.run_folder import RunError

NEEDED = ("starlette", "uvicorn", "websockets")


def play(parts: Playable, config: PlayConfig, videos: Path) -> None:
    """Serves until Ctrl-C. videos: of the run; visitors download theirs instead."""
    torch.set_num_threads(1)  # a game's steps are small
    packed = videos.name.removesuffix("-videos")  # see `RunFolder.place`
    title = videos.resolve().parent.name if packed == videos.name else packed
    try:
        serve(
            parts, config, title, lambda address: print(f"{greeting(address, config)}", flush=True)
        )
    except KeyboardInterrupt:
        print("the games are over")


def greeting(address: str, config: PlayConfig) -> str:
    return (
        f"play at {address}\n"
        f"who has this address plays, {config.visitors} at once; Ctrl-C ends all games"
    )


def serve(
    parts: Playable, config: PlayConfig, title: str, listening: Callable[[str], None]
) -> None:
    """Serves until Ctrl-C, which raises a KeyboardInterrupt when all has been tidied up.

    title: the page's heading; listening: called with the address.
    """
    server = _server()
    check(parts, config)
    with bound(config) as listener, tempfile.TemporaryDirectory(prefix="worldmodel-") as folder:
        token = secrets.token_urlsafe(16)
        workers = server.Workers(parts, config)
        workers.wait()
        sessions = server.SessionManager(workers, config, Path(folder))
        app = server.application(sessions, token, html.escape(title))
        server.run(app, listener, lambda: listening(address(listener, token)))


def check(parts: Playable, config: PlayConfig) -> None:
    """Raises the errors that the first visitor would get, before serving."""
    new_player(parts, config, config.seed).close()


def bound(config: PlayConfig) -> socket.socket:
    """A socket at the configured address."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
    except (OSError, UnicodeError) as error:
        raise RunError(f"--host {config.host} is no address of this machine: {error}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise RunError(
            f"nothing can be served at {config.host}, port {config.port}: {error.strerror}; "
            "choose another --port, or 0 for any that is free"
        ) from error
    return listener


def address(listener: socket.socket, token: str) -> str:
    """The address to open."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/?token={token}"


def _server() -> Any:
    try:
        import websockets  # noqa: F401

        from worldmodel.experiments.show.play import server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEEDED:
            raise
        raise RunError(
            f"the browser's face needs {', '.join(NEEDED)}; install them with: "
            "pip install 'worldmodel-gym[browser]'"
        ) from error
    return server
