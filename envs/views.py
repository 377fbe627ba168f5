"""Views by the ids of environments: what a person is shown of dreams."""

from collections.abc import Callable

import gymnasium
from gymnasium import spaces

from worldmodel import WorldModel
from worldmodel.envs.dream_env import View
from worldmodel.envs.showing import ObservationView, PoseView, can_pose
from worldmodel.envs.toy_game_view import ToyGameView
from worldmodel.registry import Registry

VIEWS: Registry[Callable[[WorldModel, gymnasium.Env], View]] = Registry(
    "view",
    {
        "worldmodel/ToyGame-v0": lambda model, env: ToyGameView(
            model, env.get_wrapper_attr("width"), env.get_wrapper_attr("classes")
        )
    },
)
"""By the id of an environment: makes the view of its dreams, from the world model and one real
environment."""


def register_view(id: str, make: Callable[[WorldModel, gymnasium.Env], View]) -> None:
    """Adds the view of an environment's dreams to `VIEWS`, in which `play`, `video` and `report`
    show them from now on."""
    VIEWS.register(id, make)


def view_for(model: WorldModel, space: spaces.Space, env: gymnasium.Env | None) -> View:
    """The view of dreams of observations of `space`: the one that is registered for the
    environment's id; else states as the environment renders them, where it is known how to set it
    to one; else observations as they are."""
    id = "" if env is None or env.spec is None else env.spec.id
    if env is not None and id in VIEWS:
        return VIEWS[id](model, env)
    if env is not None and can_pose(env):
        return PoseView(env)
    return ObservationView(space, model.reach)
