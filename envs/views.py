"""Views of dreams by the ids of environments."""

from collections.abc import Callable

import gymnasium
from gymnasium import spaces

from worldmodel import Registry, WorldModel
from worldmodel.envs.dream_env import View
from worldmodel.envs.showing import ObservationView, PoseView, can_pose, number_names
from worldmodel.envs.toy_game_view import ToyGameView

ViewMaker = Callable[[WorldModel, spaces.Space, gymnasium.Env | None], View]


def _of_toy_game(model: WorldModel, space: spaces.Space, env: gymnasium.Env | None) -> View:
    if env is None:
        raise ValueError("the view of the toy game needs the game, for its width and classes")
    return ToyGameView(model, env.get_wrapper_attr("width"), env.get_wrapper_attr("classes"))


def _of_observations(model: WorldModel, space: spaces.Space, env: gymnasium.Env | None) -> View:
    names = {} if env is None else number_names(env)
    return ObservationView(space, model.percepts.clamp, names)


VIEWS: Registry[ViewMaker] = Registry(
    "view", {"observation": _of_observations, "worldmodel/ToyGame-v0": _of_toy_game}
)
"""Makers of views, by name or by the id of the environment whose dreams they draw: (world model,
space of observations as it reads them, one real environment, if there is one) -> view."""


def register_view(name: str, make: ViewMaker) -> None:
    """Adds a view of dreams to `VIEWS`: `play` and `video` use it with --picture NAME, and for
    environments of the id `name` anyway."""
    VIEWS.register(name, make)


def view_for(model: WorldModel, space: spaces.Space, env: gymnasium.Env | None) -> View:
    """The view of dreams of observations of `space`: the one that is registered for the
    environment's id; else the environment's own rendering, where `can_pose` is true;
    else observations as they are."""
    id = "" if env is None or env.spec is None else env.spec.id
    if id in VIEWS:
        return VIEWS[id](model, space, env)
    if env is not None and can_pose(env):
        return PoseView(env)
    return _of_observations(model, space, env)
