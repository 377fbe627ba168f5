"""What playing and filming can be told; see `experiments.config`."""

from dataclasses import dataclass
from typing import Literal

from experiments.config import not_negative, positive

WorldName = Literal["both", "real", "dream"]
ViewName = Literal["terminal", "window", "browser"]


@dataclass(frozen=True)
class PlayConfig:
    """Which game, and what shows it."""

    view: ViewName = "terminal"
    """terminal: text, and pictures in coloured half blocks. window: needs a desktop and the extra
    worldmodel[window]. browser: prints an address, also for the far side of an ssh tunnel; needs
    the extra worldmodel[browser]."""
    world: WorldName | None = None
    """Reality and the dream of it under the same keys, or one of them; None: both, where the run
    has a real environment."""
    seed: int = 0
    """Of the game."""
    speed: float = 4.0
    """Steps a second, while time runs."""
    temperature: float = 1.0
    """Of the dream: below 1 nearer to what is most probable, above 1 wilder."""
    horizon: int | None = None
    """Steps after which a dreamt game is over; None: as in reality."""
    keys: tuple[str, ...] = ()
    """Keys of your own for discrete actions, such as left=0 space=2."""
    host: str = "127.0.0.1"
    """The address that the browser's page is served at (browser only, as all that follow)."""
    port: int = 8000
    """Its port; 0: any that is free."""
    visitors: int = 8
    """How many may play at once, each a game of their own."""
    idle: float = 600.0
    """Seconds without a key after which a visitor's game is ended."""

    def __post_init__(self) -> None:
        positive(self, "speed", "temperature", "visitors", "idle")
        not_negative(self, "seed", "port")
        if self.horizon is not None:
            positive(self, "horizon")
        if self.port > 65_535:
            raise ValueError(f"--port is at most 65535, got {self.port}")
        for key in self.keys:
            name, _, place = key.partition("=")
            if not name or not place.isdigit():
                raise ValueError(f"--keys expects key=number, such as left=0, got {key}")

    @property
    def places(self) -> dict[str, int]:
        """The keys of one's own, and the places of their actions."""
        return {key.partition("=")[0]: int(key.partition("=")[2]) for key in self.keys}
