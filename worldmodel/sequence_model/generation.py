"""Generation of recordings by a model, from a prompt or from nothing."""

from collections.abc import Callable
from typing import Any

import torch

from worldmodel import nested
from worldmodel.agent import Script
from worldmodel.codecs import action_codec
from worldmodel.environment import Dream
from worldmodel.gen_core import GenCore
from worldmodel.model import WorldModel
from worldmodel.sequence_model.modality import Modality, as_episodes

AT_ONCE = 100  # rows, between words about the progress


@torch.no_grad()
def dream(
    model: WorldModel,
    modality: Modality,
    length: int,
    samples: int,
    temperature: float = 1.0,
    prompt: Any = None,
    note: Callable[[int], None] = lambda done: None,
    actions: Any = None,
) -> list[Any]:
    """Observations of `samples` recordings, numpy leaves [T, ...]: the prompt, leaves [P, ...],
    and `length` frames that go on from it.

    note: called with the number of frames that are done; actions: that lead to all of these
    frames, [P + length, ...], or None: those of the modality's agent.
    """
    prompts = [] if prompt is None else _rows(modality, prompt, samples, actions)
    horizon = len(prompts) + length + 1
    space = modality.observation_space
    agent = modality.agent() if actions is None else Script.of(actions, modality.action_space)
    world = Dream(model, horizon, space, modality.action_space, temperature=temperature)
    core = GenCore(world, agent)
    state = core.initial_state(samples)
    for row in prompts:
        state = core.observe(row, state)
    parts = [nested.stack([row.observation for row in prompts])] if prompts else []
    for done in range(0, length, AT_ONCE):
        sequences, _, state = core.generate(min(AT_ONCE, length - done), state)
        parts.append(nested.to(sequences.rows.observation, "cpu"))
        note(min(done + AT_ONCE, length))
    whole = nested.map(lambda leaf: leaf.transpose(0, 1).numpy(), nested.concatenate(parts))
    return [nested.index(whole, number) for number in range(samples)]


def _rows(modality: Modality, prompt: Any, samples: int, actions: Any) -> list[Any]:
    """The rows of a prompt, [B, ...] each."""
    length = len(nested.leaves(prompt)[0])
    episodes = as_episodes(modality, [prompt], None if actions is None else [actions[:length]])
    sequences = episodes.sequences(action_codec(modality.action_space))
    rows = nested.map(lambda leaf: leaf.expand(-1, samples, *leaf.shape[2:]), sequences.rows)
    return nested.steps(rows)
