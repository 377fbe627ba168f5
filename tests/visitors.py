"""A server in a thread, and visitors without a browser."""

import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play import browser, server

TOKEN = "a-token"


class Hosted:
    """A server, and where it is."""

    def __init__(self, sessions: Any, port: int):
        self.sessions, self.port = sessions, port
        self.netloc = f"127.0.0.1:{port}"
        self.address = f"http://{self.netloc}/?token={TOKEN}"

    def recording(self, name: str) -> str:
        return f"http://{self.netloc}/recording/{name}?token={TOKEN}"


@contextmanager
def hosted(parts: Any, **settings: Any) -> Iterator[Hosted]:
    """Serves a run's games from a thread."""
    config = PlayConfig(view="browser", port=0, **settings)
    begun = threading.Event()
    with browser.bound(config) as listener, tempfile.TemporaryDirectory() as folder:
        sessions = server.SessionManager(
            server.Workers(parts, config), config, Path(folder) / "games"
        )
        app = server.application(sessions, TOKEN, "a run")
        serving = server.Server(app, begun.set)
        thread = threading.Thread(target=serving.run, args=([listener],))
        thread.start()
        try:
            assert begun.wait(60)
            yield Hosted(sessions, listener.getsockname()[1])
        finally:
            serving.should_exit = True
            thread.join(60)


class Visitor:
    """Plays as the page does: sends keys, gets frames, says that it got them."""

    def __init__(self, at: Hosted, token: str = TOKEN, origin: str | None = None, **options: Any):
        from websockets.sync.client import connect

        address = f"ws://{at.netloc}/play?token={token}"
        origin = f"http://{at.netloc}" if origin is None else origin
        self.socket = connect(address, origin=origin, compression=None, **options).__enter__()
        self.pictures: dict[str, bytes] = {}
        self.hello: dict[str, Any] = {}

    def say(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def frame(self, acknowledged: bool = True) -> dict[str, Any]:
        """The next one; or why it is over."""
        while True:
            message = self.socket.recv(timeout=60)
            if isinstance(message, bytes):
                self.pictures[{"r": "real", "d": "dream"}[chr(message[0])]] = message[1:]
                continue
            config = json.loads(message)
            if config["type"] == "hello":
                self.hello = config
                continue
            if acknowledged and config["type"] == "state":
                self.say({"type": "got", "number": config["number"]})
            return config

    def press(self, key: str) -> dict[str, Any]:
        """The frame after a key."""
        self.say({"type": "press", "key": key})
        return self.frame()

    def picture(self, side: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.pictures[side])).convert("RGB"))

    def leave(self) -> None:
        self.socket.close()

    def vanish(self) -> None:
        """As when a cable is cut."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
