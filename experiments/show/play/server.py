"""Serves games to browsers: a page, a web socket for each visitor, recordings to download.

The page is at `/?token=...`; the token is drawn anew each time, and nothing is answered without
it. Each web socket at `/play?token=...` is a game of its own. Text is JSON, pictures are binary.

    from the page
        {"type": "press", "key": "left"}        a key went down, by the names of `Controls`
        {"type": "release", "key": "left"}      it went up; null: no key is down
        {"type": "point", "x": 0.5, "y": -1}    the pointer, from -1 to 1, y upwards
        {"type": "got", "number": 7}            the state of that number is on the screen

    from the server
        {"type": "hello", ...}      once: worlds, actions, keys
        binary                      "r" or "d" (real, dream), then a PNG or a JPEG of that world
        {"type": "state", "number": 7, ...}     the pictures before it and this are one frame
        {"type": "full" | "idle" | "broken" | "strange", "text": "..."}   why the socket is closed

Only changes are sent, and no more than two unacknowledged frames: a slow page misses frames and
gets the newest next. Keys wait in a queue of `INBOX`; those beyond it are dropped, and all of them
when their visitor leaves. Time runs by the server's clock. Other messages are ignored; a page that
sends more than `STRANGE` of them is disconnected.
"""

import asyncio
import errno
import ipaddress
import json
import math
import secrets
import shutil
import socket
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.game import Input, Reply
from worldmodel.experiments.show.play.workers import Worker, Workers
from worldmodel.progress import Reporter

PAGE = Path(__file__).with_name("page.html")
AHEAD = 2  # frames that the page may not have acknowledged yet
INBOX = 64  # messages of a visitor in the queue; what a page sends beyond them is dropped
HEADER = 10  # seconds that a connection may take to send a request
SILENT = 32  # connections that have sent no whole request; the oldest makes room for another
ACCEPTED = 8  # connections at once, before older ones make room
WAITING = 1_024  # connections that the system keeps until they are accepted
LONGEST = 4_096  # bytes of a message from the page
FAREWELL = 3  # seconds that open connections get at shutdown
STRANGE = 1_000  # invalid messages, until the visitor is disconnected
LOCAL = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::", "")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Over(Exception):  # noqa: N818
    """Ends a visitor's game, for a reason that the page shows."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind, self.text = kind, text


class Beat:
    """Clock of rows: one is due `speed` times a second; late rows are not caught up."""

    def __init__(self) -> None:
        self.next = math.inf  # seconds, by the server's clock
        self.speed = 0.0

    def follow(self, running: bool, speed: float, now: float) -> None:
        """Sets the speed, or stops time."""
        if not running:
            self.next = math.inf
        elif self.next == math.inf or speed != self.speed:
            self.next = now + 1 / speed
        self.speed = speed

    def due(self, now: float) -> bool:
        """True if a row is due; then schedules the next."""
        if now < self.next:
            return False
        self.next = max(self.next + 1 / self.speed, now)
        return True


class Visit:
    """One visitor and a game, from the first message to the last."""

    def __init__(self, websocket: WebSocket, number: int, worker: Worker, idle: float):
        self.websocket, self.number, self.worker, self.idle = websocket, number, worker, idle
        self.films: dict[str, Path] = {}
        self.inbox: deque[Input] = deque()
        self.woken = asyncio.Event()
        self.sent = self.got = self.strange = 0
        self.heard = now()  # time of the last key

    async def go(self, folder: Path) -> None:
        """Runs the game until the visitor leaves or it is over."""
        hello = await self.ask("begin", folder)
        await self.websocket.send_text(hello)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            await self._play()

    async def ask(self, verb: str, *arguments: Any) -> Any:
        return await asyncio.wrap_future(self.worker.submit(verb, self.number, *arguments))

    async def _listen(self) -> None:
        """Reads on, however long the queue is, so that it is noticed at once when the visitor
        leaves."""
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            given = understood(message.get("text"))
            if isinstance(given, Input):
                self.heard = now()
                self._put(given)
            elif given is not None:
                self.got = max(self.got, min(given, self.sent))
                self.woken.set()
            else:
                self.strange += 1
                if self.strange > STRANGE:
                    raise Over("strange", "this page says too much that the server cannot read")

    def _put(self, given: Input) -> None:
        """Queues an input. Where the queue is full it is dropped, and no key is down after it."""
        if len(self.inbox) >= INBOX:
            given = Input("release")
        if given.kind == "point" and self.inbox and self.inbox[-1].kind == "point":
            self.inbox.pop()
        if given.kind == "release" and self.inbox and self.inbox[-1] == given:
            return
        self.inbox.append(given)
        self.woken.set()

    async def _play(self) -> None:
        beat, behind = Beat(), True  # behind: there may be changes that were not sent
        while True:
            if now() >= self.heard + self.idle:
                raise Over("idle", "no key was pressed for a while")
            tick = beat.due(now())
            wanted = self.sent - self.got < AHEAD
            if not (self._acted or tick or (behind and wanted)):
                await self._wait(beat.next)
                continue
            given = list(self._taken())
            reply: Reply = await self.ask("play", given, tick, wanted)
            self.films, behind = reply.films, not wanted
            beat.follow(reply.running, reply.speed, now())
            self.sent += bool(reply.messages)
            for message in reply.messages:
                await self._send(message)

    @property
    def _acted(self) -> bool:
        """True if the queue holds more than a few releases, which can wait."""
        many = len(self.inbox) > INBOX // 2
        return many or any(given.kind != "release" for given in self.inbox)

    def _taken(self) -> Iterator[Input]:
        """Releases, up to and including the next other input."""
        while self.inbox:
            given = self.inbox.popleft()
            yield given
            if given.kind != "release":
                return

    async def _wait(self, until: float) -> None:
        """Waits for a message or for a time of the clock."""
        self.woken.clear()
        over = self.heard + self.idle
        try:
            async with asyncio.timeout(max(0.0, min(until, over) - now())):
                await self.woken.wait()
        except TimeoutError:
            pass

    async def _send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.websocket.send_text(message)
        else:
            await self.websocket.send_bytes(message)


class SessionManager:
    """The visits in progress: admits visitors and assigns them to workers."""

    def __init__(self, workers: Workers, config: PlayConfig, folder: Path):
        """folder: for recordings only."""
        self.workers, self.config, self.folder = workers, config, folder
        self.visits: set[Visit] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.came = 0

    async def receive(self, websocket: WebSocket) -> None:
        """Serves a visitor: a game, or the reason for refusal."""
        await websocket.accept()
        if len(self.visits) >= self.config.visitors:
            text = f"{self.config.visitors} are playing, and there is room for no more"
            await self._tell(websocket, Over("full", text))
            return
        number, self.came = self.came, self.came + 1
        worker = self.workers.choose(number)
        visit = Visit(websocket, number, worker, self.config.idle)
        self.visits.add(visit)
        with suppress(asyncio.CancelledError):  # by a server that ends and waits no longer
            try:
                await self._go(visit)
            finally:
                await asyncio.shield(self._end(visit))

    async def _go(self, visit: Visit) -> None:
        over = None
        try:
            await visit.go(self.folder / secrets.token_urlsafe(12))
        except* WebSocketDisconnect:
            pass
        except* Over as group:
            over = _first(group)
        except* BrokenProcessPool:
            self.workers.replace(visit.worker)
            over = Over("broken", "the game is lost: its process has died")
        except* Exception as group:
            traceback.print_exception(_first(group))
            over = Over("broken", f"the game is broken: {_first(group)}")
        if over is not None:
            await self._tell(visit.websocket, over)

    async def _end(self, visit: Visit) -> None:
        with suppress(BrokenProcessPool, RuntimeError):  # its process has died, or all is over
            await visit.ask("end")
        visit.worker.visitors.discard(visit.number)
        self.visits.discard(visit)

    async def _tell(self, websocket: WebSocket, over: Over) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the visitor has left
            await websocket.send_text(json.dumps({"type": over.kind, "text": over.text}))
            await websocket.close(1000)

    def film(self, name: str) -> Path | None:
        """A recording, by its name."""
        found = (visit.films.get(name) for visit in self.visits)
        return next((path for path in found if path is not None), None)

    def close(self) -> None:
        """Ends all games and removes all recordings."""
        self.workers.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _first(group: BaseExceptionGroup[Any]) -> Any:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def now() -> float:
    """Seconds by the server's clock."""
    return asyncio.get_running_loop().time()


def understood(text: Any) -> Input | int | None:
    """A message from the page: an input, or the number of a frame that it got; None if it is
    neither.

    >>> understood('{"type": "press", "key": "left"}')
    Input(kind='press', key='left', x=0.0, y=0.0)
    >>> understood('{"type": "got", "number": 7}'), understood("left")
    (7, None)
    """
    try:
        config = json.loads(text)
        kind = config["type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    key, number = config.get("key"), config.get("number")
    if kind == "got" and type(number) is int:
        return number
    if kind == "point" and all(_is_finite(config.get(axis)) for axis in "xy"):
        return Input("point", None, float(config["x"]), float(config["y"]))
    if kind == "press" and isinstance(key, str):
        return Input("press", key)
    if kind == "release" and (key is None or isinstance(key, str)):
        return Input("release", key)
    return None


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


# The application.


class Guard:
    """Admits requests with the token, a Host header of this server and an Origin of its own page.

    The Host matters since a foreign page may resolve its own name to this address (DNS rebinding);
    the token alone would suffice, and this is a second check.
    """

    def __init__(self, app: Any, token: str, host: str):
        self.app, self.token, self.host = app, token, host

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self.lets_in(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await page(FORBIDDEN, status=403)(scope, receive, send)

    def lets_in(self, scope: Message) -> bool:
        headers = {name.lower(): value for name, value in scope["headers"]}
        asked = headers.get(b"host", b"").decode("latin-1")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return False
        if not is_ours(asked, self.host):
            return False
        origin = headers.get(b"origin", b"").decode("latin-1")
        ours = {f"{scheme}://{asked}" for scheme in ("http", "https")}  # by a proxy with TLS
        return scope["type"] != "websocket" or origin in ours


def is_ours(asked: str, host: str) -> bool:
    """True if a Host header names this server, which listens at `host`. The port is ignored: there
    may be a tunnel.

    >>> is_ours("localhost:8000", "127.0.0.1"), is_ours("evil.example:8000", "127.0.0.1")
    (True, False)
    >>> is_ours("192.168.0.7:8000", "0.0.0.0"), is_ours("evil.example", "0.0.0.0")
    (True, False)
    """
    if "@" in asked:  # a name before the host, which no browser sends
        return False
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    here = {host.lower(), *LOCAL}
    if host not in LOCAL:
        here |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return name in here or (host in ANY and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


FORBIDDEN = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Not this way</title>
<style nonce="NONCE">:root{color-scheme:light dark}body{font:18px/1.5 system-ui,sans-serif;
max-width:32em;margin:15vh auto;padding:0 1.5em}</style>
<h1>Not this way</h1><p>This address lacks the word that lets you in, or has an old one. Please
open the whole address that <code>worldmodel play</code> has printed, up to its last letter.</p>
"""


def page(text: str, status: int = 200) -> Response:
    """A page that may connect to its own server only."""
    nonce = secrets.token_urlsafe(12)
    rules = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(
        text.replace("NONCE", nonce),
        status,
        {
            "Content-Security-Policy": rules,
            "Cross-Origin-Opener-Policy": "same-origin",
        },
    )


def application(sessions: SessionManager, token: str, title: str) -> Any:
    """The ASGI application. title: of the run."""
    shown = PAGE.read_text(encoding="utf-8").replace("TITLE", title)

    async def index(request: Request) -> Response:
        return page(shown)

    async def recording(request: Request) -> Response:
        path = sessions.film(request.path_params["name"])
        if path is None:
            return page("<!doctype html><title>Gone</title>This recording is no more.", 404)
        return FileResponse(path, media_type="video/mp4", filename=path.name)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(reported)
        yield
        await asyncio.to_thread(sessions.close)

    routes = [
        Route("/", index),
        Route("/recording/{name}", recording),
        WebSocketRoute("/play", sessions.receive),
    ]
    return Guard(Starlette(routes=routes, lifespan=life), token, sessions.config.host)


OF_ALL = [  # headers of every answer
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


def reported(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Reports errors of the event loop as asyncio does; that there are too many connections, which
    it would say a thousand times a second, once and in a sentence."""
    if getattr(context.get("exception"), "errno", None) in (errno.EMFILE, errno.ENFILE):
        say_once("too many connections: new ones wait until others end (`ulimit -n` allows more)")
    else:
        loop.default_exception_handler(context)


@cache
def say_once(text: str) -> None:
    """Prints a text the first time that it is called with it."""
    Reporter().say(text)


class Impatient(H11Protocol):
    """Ends connections that send no request, or a part of one: after `HEADER` seconds, or as soon
    as there are more than `SILENT` of them, the oldest first. So who sends a request is served,
    however many do not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = self.loop.time()
        self.loop.call_later(HEADER, self._end_if_silent)
        others = (each for each in self.connections if isinstance(each, Impatient))
        silent = [each for each in others if each.is_silent]
        if len(silent) > SILENT:
            min(silent, key=lambda each: each.begun).transport.abort()

    @property
    def is_silent(self) -> bool:
        """True while there is no request, or none since the last answer."""
        is_idle = self.cycle is None or self.cycle.response_complete
        return is_idle and not self.transport.is_closing()

    def _end_if_silent(self) -> None:
        if self not in self.connections:  # closed, or a web socket by now
            return
        if self.is_silent:
            self.transport.abort()
        else:
            self.loop.call_later(HEADER, self._end_if_silent)


class Server(uvicorn.Server):
    """A uvicorn server that calls `listening` once it listens."""

    def __init__(self, app: Any, listening: Callable[[], None]):
        config = uvicorn.Config(
            app,
            http=Impatient,
            loop="asyncio",
            backlog=ACCEPTED,
            headers=OF_ALL,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=LONGEST,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=FAREWELL,
        )
        super().__init__(config)
        self.listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING)
        self.listening()


def run(app: Any, listener: socket.socket, listening: Callable[[], None]) -> None:
    """Serves until Ctrl-C, which raises a KeyboardInterrupt when all games have ended."""
    Server(app, listening).run([listener])
    raise KeyboardInterrupt  # uvicorn raises it again when all has ended, unless asyncio loses it
