"""The window's face of a game: pictures scaled to the window, keys and a pointer."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.canvas import Box, drawn
from worldmodel.experiments.show.play.faces import HELP, QUIT, Surprises, closed, key_name, opened
from worldmodel.experiments.show.play.player import Player
from worldmodel.run_folder import RunError

SIZE = (1280, 720)  # pixels, at first: three pictures of the toy game fit as they are
RATE = 60  # iterations a second
UNSEEN = ("offscreen", "dummy")  # drivers that SDL falls back to without a desktop


def play(parts: Any, config: PlayConfig, videos: Path) -> None:
    """Opens a window and lets a person play until they close it."""
    pygame = with_display()
    player = opened(parts, config, videos)
    try:
        Window(player, pygame).run()
    finally:
        closed(player)
        pygame.quit()


def with_display() -> ModuleType:
    """pygame, with a display."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise RunError(
            "a window needs pygame: pip install 'worldmodel-gym[window]', or use --view browser"
        ) from error
    try:
        pygame.display.init()
    except pygame.error as error:
        raise RunError(f"a window needs a desktop ({error}): use --view browser") from error
    driver = pygame.display.get_driver()
    if driver in UNSEEN and os.environ.get("SDL_VIDEODRIVER") != driver:
        pygame.display.quit()
        raise RunError("a window needs a desktop, and there is none here: use --view browser")
    return pygame


class Window:
    """A window, redrawn after every event."""

    def __init__(self, player: Player, pygame: ModuleType):
        self.player, self.pygame = player, pygame
        self.surprises = Surprises()
        self.surface = pygame.display.set_mode(SIZE, pygame.RESIZABLE)
        pygame.display.set_caption("worldmodel")
        self.clock = pygame.time.Clock()
        self.due = 0.0  # milliseconds, time of the next row
        self.pressed: dict[int, str] = {}  # keys that are held, by pygame's numbers
        self.places: list[Box] = []  # of the pictures
        self.help = False
        self.stale = True  # to be redrawn
        self.quitting = False

    def run(self) -> None:
        """Runs until the person quits."""
        while not self.quitting:
            self.turn()
            self.clock.tick(RATE)

    def turn(self) -> None:
        """Handles events, advances time, and redraws."""
        for event in self.pygame.event.get():
            self.take(event)
        self._tick(self.pygame.time.get_ticks())
        if self.stale:
            self._draw()

    def take(self, event: Any) -> None:
        """Handles an event."""
        pygame = self.pygame
        takers = {
            pygame.QUIT: self._quit,
            pygame.KEYDOWN: self._down,
            pygame.KEYUP: self._up,
            pygame.MOUSEBUTTONDOWN: self._point,
            pygame.MOUSEMOTION: self._drag,
            pygame.MOUSEBUTTONUP: self._let_go,
            pygame.WINDOWFOCUSLOST: self._let_go,
        }
        if event.type in takers:
            takers[event.type](event)
        self.stale = self.stale or event.type != pygame.MOUSEMOTION

    def _tick(self, now: float) -> None:
        """Takes a row if one is due; late rows are not caught up."""
        if self.player.running and now >= self.due:
            pause = 1000 / self.player.speed
            self.due = (self.due if self.due + pause > now else now) + pause
            self.player.tick()
            self.stale = True

    def _quit(self, event: Any) -> None:
        self.quitting = True

    def _down(self, event: Any) -> None:
        """Handles keys of the player first: the user may have assigned them to actions."""
        pygame, speed = self.pygame, self.player.speed
        key = key_name(pygame.key.name(event.key), event.unicode)
        if self.help:
            self.help = False
        elif event.mod & (pygame.KMOD_CTRL | pygame.KMOD_ALT | pygame.KMOD_META):
            return
        elif self.player.press(key):
            self.pressed[event.key] = key
        elif key in (HELP, "f1"):
            self.help = True
        elif key in (QUIT, "escape"):
            self.quitting = True
        if self.player.speed != speed:
            self.due = 0.0

    def _up(self, event: Any) -> None:
        if event.key in self.pressed:
            self.player.release(self.pressed.pop(event.key))

    def _point(self, event: Any) -> None:
        """Handles a press on a picture: (-1, -1) is its lower left corner, (1, 1) its upper
        right."""
        for box in self.places:
            if event.button == 1 and box.holds(*event.pos):
                self.player.point(*box.share(*event.pos))

    def _drag(self, event: Any) -> None:
        """Handles dragging while time runs; otherwise each row needs a press of its own."""
        if event.buttons[0] and self.player.running:
            for box in self.places:
                if box.holds(*event.pos):
                    self.player.point(*box.share(*event.pos))

    def _let_go(self, event: Any) -> None:
        self.pressed.clear()
        self.player.release()

    def _draw(self) -> None:
        self.stale = False
        self.surface = self.pygame.display.get_surface()
        self.surprises.note(self.player.moment)
        image, self.places = drawn(self.player, self.surprises, self.surface.get_size(), self.help)
        shown = self.pygame.image.frombytes(image.tobytes(), image.size, "RGB")
        self.surface.blit(shown, (0, 0))
        self.pygame.display.flip()
