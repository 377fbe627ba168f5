"""Settings of playing and filming; see `worldmodel.options`."""

from dataclasses import dataclass
from typing import Literal

from worldmodel.names import PictureName
from worldmodel.options import not_negative, positive

WorldName = Literal["both", "real", "dream"]
ViewName = Literal["terminal", "window", "browser"]


@dataclass(frozen=True)
class PlayConfig:
    """The game, and the interface that shows it."""

    view: ViewName = "terminal"
    """terminal: text, and pictures in coloured half blocks. window: needs a desktop and the extra
    worldmodel-gym[window]. browser: prints an address, also for the far side of an ssh tunnel;
    needs the extra worldmodel-gym[browser]."""
    world: WorldName | None = None
    """Reality and the dream of it under the same keys, or one of them; None: both, where the run
    has a real environment."""
    seed: int = 0
    """Seed of the game."""
    speed: float | None = None
    """Steps a second, while time runs; None: as the environment is rendered, 4 if it does not
    say."""
    picture: PictureName = "auto"
    """View that draws the dream: its run's own (auto), its observations as they are
    (observation), or a view of a plugin."""
    temperature: float = 1.0
    """Temperature of the dream's distributions: below 1 less random, above 1 more random."""
    horizon: int | None = None
    """Steps after which a dreamt game is truncated; None: as in reality."""
    keys: tuple[str, ...] = ()
    """Keys of your own for discrete actions, such as left=0 space=2."""
    host: str = "127.0.0.1"
    """The address that the browser's page is served at (browser only, as all that follow)."""
    port: int = 8000
    """Its port; 0: any that is free."""
    visitors: int = 8
    """Maximum number of simultaneous visitors, each with a game of their own."""
    idle: float = 600.0
    """Seconds without a key after which a visitor's game is ended."""

    def __post_init__(self) -> None:
        positive(self, "temperature", "visitors", "idle")
        positive(self, *(key for key in ("speed", "horizon") if getattr(self, key) is not None))
        not_negative(self, "seed", "port")
        if self.port > 65_535:
            raise ValueError(f"--port is at most 65535, got {self.port}")
        for key in self.keys:
            name, _, place = key.partition("=")
            if not name or not place.isdigit():
                raise ValueError(f"--keys expects key=number, such as left=0, got {key}")

    @property
    def places(self) -> dict[str, int]:
        """The user's keys, and the indices of their actions."""
        return {key.partition("=")[0]: int(key.partition("=")[2]) for key in self.keys}


Kind = Literal["real", "dream", "both", "open-loop", "grid"]


@dataclass(frozen=True)
class VideoConfig:
    """The kind of film, and its length."""

    kind: Kind | None = None
    """real. dream. both: real | dream | difference under the same actions; the dream observes the
    first row of each real game only. open-loop: the same, but the dream observes some rows
    before it goes on alone, again and again. grid: many dreams that continue from one start. None:
    both, if the run has a real environment, and otherwise dream."""
    steps: int | None = None
    """Number of frames; None: ten seconds, at least 60 frames."""
    agent: Literal["policy", "uniform"] = "policy"
    """Agent that acts: the trained policy, greedily, or uniformly random actions."""
    seed: int = 0
    """Seed of the games."""
    picture: PictureName = "auto"
    """View that draws the dream: its run's own (auto), its observations as they are
    (observation), or a view of a plugin."""
    fps: float | None = None
    """Frames a second; None: 2 if each step is a decision, and otherwise as the environment is
    rendered, at most 30."""
    temperature: float = 1.0
    """Temperature of the dream's distributions: below 1 less random, above 1 more random."""
    observed: int | None = None
    """Real rows that the dream observes first (open-loop and grid; 0, in a grid: it begins with
    the model's own first row); None: 5, in a grid 1."""
    dreams: int | None = None
    """Number of dreams in a grid; None: 16."""
    horizon: int | None = None
    """Steps after which a dreamt game is truncated; open-loop and grid: dreamt rows after which
    everything begins anew. None: as in reality; a third of the film."""

    def __post_init__(self) -> None:
        positive(self, "temperature")
        positive(self, *(name for name in OPTIONAL if getattr(self, name) is not None))
        not_negative(self, "seed")
        if self.observed is not None:
            not_negative(self, "observed")
        if self.dreams is not None and self.dreams > MOST_DREAMS:
            raise ValueError(f"--dreams is at most {MOST_DREAMS}, got {self.dreams}")


OPTIONAL = ("steps", "fps", "dreams", "horizon")
MOST_DREAMS = 100
