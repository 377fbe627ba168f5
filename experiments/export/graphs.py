"""The graphs of a run: its agent, its dream, and the encoder and decoder of its images.

Each is one step for one game.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel import Agent, Dream, Row, action_codec, decode_images, encode_images, nested
from worldmodel.distributions import DiscretisedLogistics, Mode
from worldmodel.graphs.graph import (
    Graph,
    Tensors,
    filled,
    flat,
    graph_of,
    next_of,
    session_of,
)
from worldmodel.graphs.tape import ExportError

CHECKED = 32  # steps that a graph and torch are compared over
TOLERANCE = 1e-4


class Exported(NamedTuple):
    """The graphs of a run, and facts about it."""

    graphs: dict[str, Graph]
    about: dict[str, Any]  # what those who run the graphs need to know, as JSON has it


def check(graph: Graph, name: str, random: np.random.Generator) -> None:
    """Raises ExportError if the graph, run by onnxruntime, does not compute what torch does."""
    session, values = session_of(graph.model), dict(graph.inputs)
    for _ in range(CHECKED):
        for kind in graph.noise:
            draw = random.standard_normal if kind == "normal" else random.random
            values[kind] = torch.from_numpy(draw(len(values[kind]), np.float32))
        expected = graph.step(values)
        found = session.run(None, {key: value.numpy() for key, value in values.items()})
        for output, array in zip(graph.outputs, found, strict=True):
            scale = 1 + expected[output].double().abs().max()
            distance = (expected[output].double() - torch.from_numpy(array).double()).abs().max()
            if not distance <= TOLERANCE * scale:
                raise ExportError(
                    f"the graph `{name}` does not compute what torch does ({output} is off by "
                    f"{float(distance):.2g}): what this model computes depends on its values"
                )
        values |= {key: expected[next_of(key)] for key in graph.state}


def policy_graph(agent: Agent, observation: Any, action: Tensor, action_space: Any) -> Graph:
    """The agent: a row (the last action, of the space, and the observation and the reward that it
    led to; or the first observation) -> the next action. It acts by the mode of its policy where
    `greedy`, else it draws."""
    actions = action_codec(action_space)
    mind = agent.initial_state(1)

    def step(values: Tensors) -> Tensors:
        first = values["first"]
        code = actions.encode(values["last_action"]).masked_fill(first[:, None], 0.0)
        seen = filled(observation, "observation", values)
        row = Row(first, code, seen, values["reward"], torch.zeros_like(first))
        thought, after = agent.step(row, filled(mind, "state", values))
        policy = agent.policy(thought)
        greedy = values["greedy"][:, None]
        chosen = torch.where(greedy, Mode(policy).sample(), policy.sample())
        return {"action": actions.decode(chosen)} | flat(after, "next")

    inputs = flat(observation, "observation") | {
        "last_action": action,
        "reward": torch.zeros(1),
        "first": torch.ones(1, dtype=torch.bool),
        "greedy": torch.ones(1, dtype=torch.bool),
    }
    begin = flat(mind, "state")
    return graph_of(step, inputs | begin, tuple(begin))


def dream_graph(dream: Dream, observation: Any, action: Tensor) -> Graph:
    """The dream: the action, of the space, whether to begin anew, and a temperature where the
    model has one -> the row, its observation of the types that the agent reads."""
    actions = action_codec(dream.action_space)
    state = dream.initial_state(1)

    def step(values: Tensors) -> Tensors:
        before = filled(state, "state", values)
        before = before._replace(ended=before.ended | values["reset"])
        code = actions.encode(values["action"])
        warm: Any = values.get("temperature", dream.temperature)
        same = Dream(dream.model, dream.horizon, dream.observation_space, dream.action_space, warm)
        row, after = same.step(code, before)
        seen = nested.map(lambda x, like: x.to(like.dtype), row.observation, observation)
        outputs = {"first": row.first} | flat(seen, "observation")
        outputs |= {"reward": row.reward, "terminated": row.terminated}
        truncated = after.ended & ~row.terminated
        return outputs | {"truncated": truncated} | flat(after, "next")

    begin = flat(state, "state")
    inputs = {"action": action, "reset": torch.zeros(1, dtype=torch.bool)}
    warm = {"temperature": torch.ones(())}
    try:
        return graph_of(step, inputs | warm | begin, tuple(begin))
    except ValueError as error:
        if isinstance(error, ExportError) or "temperature" not in str(error):
            raise
        return graph_of(step, inputs | begin, tuple(begin))


def image_graphs(image_encoder: Any, image: Tensor) -> dict[str, Graph]:
    """The encoder of images and the decoder of their codes."""
    code = torch.zeros(1, image_encoder.core.feature_size)

    def encode(values: Tensors) -> Tensors:
        return {"observation": encode_images(image_encoder, values["image"])}

    def decode(values: Tensors) -> Tensors:
        pixels = image_encoder.percepts.predict(values["observation"]).observation.base_dist
        if isinstance(pixels, DiscretisedLogistics):
            return {"image": _mean_of(pixels)}
        return {"image": decode_images(image_encoder, values["observation"])}

    return {
        "encoder": graph_of(encode, {"image": image}),
        "decoder": graph_of(decode, {"observation": code}),
    }


def _mean_of(pixels: DiscretisedLogistics) -> Tensor:
    """The mean brightness, uint8, within one level of `decode_images`: the sum over levels k of
    sigmoid((mean - k) / scale) as an integral, which costs two functions instead of 255."""
    mean, scale = pixels.component_mean[..., 0], pixels.scale[..., 0]
    below = F.softplus(mean / scale) - F.softplus((mean - pixels.last) / scale)
    return (scale * below).round().clamp(0, pixels.last).to(torch.uint8)
