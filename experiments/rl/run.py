"""A run of reinforcement learning: its agent, its model, and the worlds that it faces."""

import functools
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import cattrs
import gymnasium
import numpy as np

from worldmodel import Agent, DiskStore, Dream, EpisodeSource, WorldModel, ranks
from worldmodel.agents import AgentTraining
from worldmodel.agents.components import Components, Statistics
from worldmodel.agents.world import World
from worldmodel.agents.world_model_agent import world_from
from worldmodel.checkpoint import Checkpoint, list_checkpoints
from worldmodel.disk_store import FollowedStore
from worldmodel.envs import (
    VIEWS,
    CodeView,
    EnvironmentSource,
    GymEnvironment,
    ImageToCode,
    Purpose,
    View,
    action_names,
    best_return,
    purpose_of,
    view_for,
)
from worldmodel.envs.checked import shut
from worldmodel.errors import naming_damage
from worldmodel.experiments.data.datasets import Data, episodes_of, open_data
from worldmodel.experiments.rl.collecting import cluster_refusal, collector_of, elsewhere
from worldmodel.experiments.rl.config import CollectorsConfig, EnvironmentConfig, RLConfig
from worldmodel.experiments.runs.device import device_of
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import config_of
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.space_json import FILE as SPACES, read_spaces, write_spaces

FEWEST = 3  # recorded episodes
HELD_OUT = "held-out.npz"  # of a run's folder: the episodes that its model is scored on


class Run:
    """A run as its newest checkpoint left it, for scripts, the player and films."""

    def __init__(self, config: RLConfig, world: World, components: Components):
        self.config = config
        self.world = world
        self.components = components
        self.picture_name = "auto"  # the view that draws dreams, of `worldmodel.envs.VIEWS`

    def __repr__(self) -> str:
        return run_name(self.config.environment.env or "recorded episodes", self.model)

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.components.model

    @property
    def agent(self) -> Agent:
        """The agent, acting on the model's observations (codes, where images are encoded)."""
        return self.components.agent

    @property
    def observation_space(self) -> Any:
        """The space of observations as the model reads them."""
        return self.components.observation_space

    @property
    def action_space(self) -> Any:
        return self.components.action_space

    @property
    def absence(self) -> str:
        """A sentence on why there is no real environment; "" where there is one."""
        if self.world.source is None:
            return "this run was learned from recorded episodes and knows no real environment"
        return self.refusal

    @property
    def refusal(self) -> str:
        """A sentence on why the real environment may not be made; "" if it may, or if there is
        none."""
        return "" if self.world.source is None else self.world.source.refusal

    @property
    def has_environment(self) -> bool:
        """True where there is a real environment that may be made."""
        return not self.absence

    @property
    def source(self) -> EnvironmentSource:
        """The source of the real environment."""
        if self.world.source is None:
            raise RunError(self.absence)
        return self.world.source

    def environment(
        self, copies: int = 1, seed: int | None = None, render_mode: str | None = None
    ) -> GymEnvironment:
        """The real environment, `copies` side by side, in this process; images are codes in it."""
        made = said(lambda: self.source.vector(copies, render_mode=render_mode))
        self.world.check_fit(made)
        encoder = self.components.image_encoder
        made = made if encoder is None else ImageToCode(made, encoder)
        return GymEnvironment(made, seed, self.source.patience)

    def dream(self, horizon: int | None = None) -> Dream:
        """The environment as the model dreams it, by default until the real one's time limit, or
        the policy's horizon."""
        return self.components.dream(horizon or self.time_limit)

    @functools.cached_property
    def one(self) -> gymnasium.Env:
        """One copy of the real environment, for its metadata and for drawing; it renders images
        where it can, and its observations are not encoded."""
        return cast(gymnasium.Env, said(self.source.shown))

    @property
    def time_limit(self) -> int | None:
        """Steps after which the real environment truncates; None where it does not, or where there
        is none."""
        return cast(int | None, said(lambda: self.world.time_limit))

    @property
    def hides(self) -> bool:
        """True if the real game's picture would reveal what the player is to find out."""
        return bool(getattr(self.view(), "hides", False))

    @property
    def action_names(self) -> tuple[str, ...]:
        """The names of the actions, in their order, in lower case; () where they are unknown."""
        return action_names(self.one) if self.has_environment else ()

    @functools.cached_property
    def purpose(self) -> Purpose:
        """The purpose of the game; nothing is known where there is no real environment."""
        return purpose_of(self.one) if self.has_environment else Purpose()

    def best_return(self, info: Mapping[str, Any]) -> float | None:
        """The best possible return of a real game; None where it is unknown. info: of its
        `reset`."""
        return best_return(self.one, info)

    @property
    def pace(self) -> float | None:
        """Rows per second at which the real environment is shown; None where it is unknown."""
        fps = self.one.metadata.get("render_fps") if self.has_environment else None
        return fps and fps / self.config.environment.action_repeat

    def shown_environment(self, seed: int) -> GymEnvironment:
        """One copy of the real environment, which can be drawn if it renders images."""
        return self.environment(1, seed, render_mode=self.one.render_mode)

    def picture(self, environment: GymEnvironment, mode: str) -> Any:
        """The picture of the real game: drawn by its view, or rendered by the environment; None
        where neither can, and a view of the rows is used instead."""
        real = getattr(self.view(), "real", None)
        if real is not None:
            return real(environment.info, mode)
        is_other = environment.vector_env.render_mode != mode
        shows_images = bool(getattr(self.view(), "images", ()))  # among what is observed
        if mode != "rgb_array" or shows_images or is_other:
            return None
        return cast(Any, environment.vector_env.render())[0]

    def view(self) -> View:
        """The view of dreams."""
        return self._view

    @functools.cached_property
    def _view(self) -> View:
        one = self.one if self.has_environment else None
        if self.picture_name != "auto":
            return VIEWS[self.picture_name](self.model, self.observation_space, one)
        if self.components.image_encoder is not None:
            return CodeView(self.components.image_encoder)
        return view_for(self.model, self.observation_space, one)


def source_of(config: EnvironmentConfig, folder: RunFolder | None = None) -> EnvironmentSource:
    """The source of the environment that the options name.

    folder: of the run that has these options; None, here and below: the user typed them.
    """
    world = world_from(cattrs.unstructure(config), None, None, folder)  # type: ignore[arg-type]
    if world.source is None:
        raise RunError("there is no environment to play in: give --env ID")
    return world.source


def said(function: Callable[[], Any]) -> Any:
    """A function's result; ValueError and TypeError become RunError."""
    try:
        return function()
    except (ValueError, TypeError) as error:
        raise RunError(str(error)) from error


def recorded(config: RLConfig, folder: RunFolder | None = None) -> Data:
    """The recorded episodes that a run learns from; they fit the environment, if there is one."""
    path = Path(cast(str, config.data))
    data = open_data(path)
    if len(data.episodes) < FEWEST or not data.episodes.steps:
        raise RunError(
            f"{path} has {len(data.episodes)} episodes and {data.episodes.steps} steps: to learn "
            f"from some and to hold out others, it takes {FEWEST} episodes or more, with steps"
        )
    if config.environment.env is not None:
        spaces = spaces_of(config.environment, folder)
        if spaces != data[1:]:
            raise RunError(
                f"{path} holds episodes of the spaces {data[1]} and {data[2]}, but "
                f"{config.environment.env} has {spaces[0]} and {spaces[1]}: give the options that "
                "the episodes were recorded with, or leave out --env"
            )
    return data


def spaces_of(
    config: EnvironmentConfig,
    folder: RunFolder | None = None,
    collecting: CollectorsConfig = CollectorsConfig(),
) -> tuple[Any, Any]:
    """The spaces of observations and actions of the real environment."""
    one = said(lambda: elsewhere(source_of(config, folder), collecting, folder).one())
    spaces = (one.observation_space, one.action_space)
    shut(one)
    return spaces


def training_of(folder: RunFolder, say: Callable[[str], None]) -> AgentTraining:
    """The job of a run, before its first unit."""
    return ranks.first_then_others(lambda: _training_of(folder, say))


def _training_of(folder: RunFolder, say: Callable[[str], None]) -> AgentTraining:
    config: RLConfig = config_of(folder)
    data = _data_of(folder, config)
    if data is not None and ranks.is_first():
        write_spaces(folder.episodes, *data[1:])
    elif not (folder.episodes / SPACES).exists() and not list_checkpoints(folder.checkpoints):
        write_spaces(folder.episodes, *spaces_of(config.environment, folder, config.collecting))
    world = world_of(config, *read_spaces(folder.episodes), folder)
    if world.source is not None:
        world.source.check()
    if data is not None:
        chosen = _hold_out(config, data.episodes, folder)
        world = world._replace(data=data.episodes, chosen=chosen)
    store = DiskStore(folder.episodes) if ranks.is_first() else FollowedStore(folder.episodes)
    if refusal := cluster_refusal(config.collecting, folder):
        raise RunError(refusal)
    watched = config.curve_episodes, say, config.stop_at
    collector = collector_of(config.collecting)
    job = AgentTraining(config.agent, world, store, *watched, device_of(folder), collector)
    job.extend(config.steps)
    return job


def world_of(
    config: RLConfig,
    observation_space: Any,
    action_space: Any,
    folder: RunFolder | None = None,
) -> World:
    """The world that a run learns from, without its recorded episodes."""
    environment = cattrs.unstructure(config.environment)
    world = world_from(environment, observation_space, action_space, folder)
    source = world.source and elsewhere(world.source, config.collecting, folder)
    return world._replace(source=source, is_recorded=config.data is not None)


def _data_of(folder: RunFolder, config: RLConfig) -> Data | None:
    """The recorded episodes that a run learns from, until it has copied them."""
    if config.data is None:
        return None
    there = list_checkpoints(folder.checkpoints)
    has_read = there and folder.values()["stage"] > 0
    return None if has_read else recorded(config, folder)


def _hold_out(config: RLConfig, data: EpisodeSource, folder: RunFolder) -> np.ndarray:
    """Saves some recorded episodes for the evaluation; returns the indices of the others."""
    number = len(data)
    few = min(config.evaluation.held_out, max(2, number // 10))
    held_out = np.linspace(0, number - 1, few).round().astype(int)
    if ranks.is_first():
        data.select(held_out).save(folder.path / HELD_OUT)
    return np.setdiff1d(np.arange(number), held_out)


def repaired(
    folder: RunFolder, values: Mapping[str, Any], counts: Mapping[Path, int]
) -> dict[str, Any]:
    """The values of a checkpoint after episodes were left out. counts: of those that are left."""
    if "images" in values:
        raise RunError(
            f"{folder.path} cannot be repaired in the midst of learning to encode images: name an "
            "older checkpoint by --from"
        )
    finished = counts[folder.episodes]
    added = finished + values["added"] - values["finished"]
    changed = {"added": added, "finished": finished, "best": None, "curve": [], "counted": 0}
    if "replay" in values:
        changed["replay"] = values["replay"] | {"episodes": added}
    return {**values, **changed}


def packed(
    folder: RunFolder, values: Mapping[str, Any], place: Path, episodes: bool
) -> dict[str, Any]:
    """Writes the spaces of a run, and its episodes if they are wanted, into a folder that is to be
    packed; returns the values of its checkpoint."""
    target, count = place / folder.episodes.name, 0
    target.mkdir()
    write_spaces(target, *read_spaces(folder.episodes))
    if episodes:
        source = episodes_of(folder)
        with closing(DiskStore(target)) as store:
            for part in source.portions():
                store.add(part)
            count = store.added
        (target / "lock").unlink()
        if (folder.path / HELD_OUT).exists():
            shutil.copy(folder.path / HELD_OUT, place)
    return {**values, "added": count, "finished": count}


def load_run(folder: RunFolder) -> tuple[Run, Checkpoint]:
    """A run as its newest checkpoint left it, or the one that it keeps, and that checkpoint."""
    with naming_damage(folder.path):
        return _load_run(folder)


def _load_run(folder: RunFolder) -> tuple[Run, Checkpoint]:
    folder = folder.kept()
    config: RLConfig = config_of(folder)
    checkpoint = folder.checkpoint()
    if "statistics" not in checkpoint.values:
        raise RunError(
            f"{folder.path} has learned nothing yet: `worldmodel resume {folder.path}` goes on, "
            "with --steps N where none are planned"
        )
    spaces = read_spaces(folder.episodes)
    world = said(lambda: world_of(config, *spaces, folder))
    statistics = Statistics(**checkpoint.values["statistics"])
    components = Components(config.agent, statistics, *spaces, device_of(folder))
    checkpoint.load(components.modules)
    for module in components.modules.values():
        module.requires_grad_(False)
    return Run(config, world, components), checkpoint
