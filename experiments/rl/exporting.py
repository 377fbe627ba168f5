"""The graphs of a run, and what those who run them need to know."""

from typing import Any

import numpy as np
import torch
from gymnasium.vector.utils import batch_space

from worldmodel.codecs.clamp import BoxClamp, Clamp, JointClamp
from worldmodel.envs.observations import as_tensors
from worldmodel.experiments.export.graphs import (
    Exported,
    check,
    dream_graph,
    image_graphs,
    policy_graph,
)
from worldmodel.experiments.rl.run import Run
from worldmodel.space_json import to_json


def exported(run: Run, seed: int = 0) -> Exported:
    """The graphs of a run's agent and dream, compared with torch step by step."""
    components = run.components
    observation = _example(run.observation_space)
    action = _example(run.action_space)
    graphs = {
        "policy": policy_graph(run.agent, observation, action, run.action_space),
        "dream": dream_graph(run.dream(), observation, action),
    }
    if components.image_encoder is not None:
        graphs |= image_graphs(components.image_encoder, _example(components.recorded_space))
    random = np.random.default_rng(seed)
    for name, graph in graphs.items():
        check(graph, name, random)
    return Exported(graphs, _described(run))


def _example(space: Any) -> Any:
    """A member of a space as the rows of one game hold it, leaves [1, ...]."""
    return as_tensors(_plain(batch_space(space, 1).sample()), torch.float32)


def _plain(value: Any) -> Any:
    """Dicts and tuples instead of what spaces make of them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _described(run: Run) -> dict[str, Any]:
    one = run.one if run.has_environment else None
    view = run.view()
    picture = getattr(view, "page", None)
    if picture is None and one is not None and one.spec is not None:
        is_whole = one.observation_space == one.unwrapped.observation_space
        picture = {"name": one.spec.name} if is_whole else None
    return {
        "title": f"A dream of {run.config.environment.env or 'recorded episodes'}",
        "run": repr(run).strip("<>"),
        "environment": run.config.environment.env,
        "horizon": run.dream().horizon,
        "observation_space": to_json(run.components.recorded_space),
        "action_space": to_json(run.action_space),
        "action_names": [*run.action_names],
        "rows_per_second": run.pace,
        "purpose": run.purpose._asdict() | {"told": run.purpose.told},
        "ranges": _ranges(run.observation_space, run.model.percepts.clamp),
        "picture": picture or {},
    }


def _ranges(space: Any, clamp: Clamp, path: str = "observation") -> dict[str, Any]:
    """The least and the greatest of each number that was met, [2, n], by the name of its input."""
    if isinstance(clamp, JointClamp):
        found: dict[str, Any] = {}
        for key, part in clamp.parts.items():
            found |= _ranges(space[key], part, f"{path}.{key}")
        return found
    if not isinstance(clamp, BoxClamp) or not bool(clamp.seen.isfinite().all()):
        return {}
    return {path: clamp.seen.flatten(1).tolist()}
