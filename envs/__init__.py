"""Environments: the toy game, real worlds as Environments, dreams as Gymnasium environments."""

import gymnasium

from envs.belief_wrapper import BeliefWrapper
from envs.dream_env import DreamEnv, DreamVectorEnv, View
from envs.gymnasium_environment import GymEnvironment
from envs.image_code import ImageToCode
from envs.toy_game import Action, ToyGame, ToyGameVector, draw_ring, ring_text
from envs.toy_game_filter import ToyGameFilter
from envs.toy_game_solver import best_memoryless_policy, random_policy_steps, solve_toy_game
from envs.toy_game_view import ToyGameView

gymnasium.register(
    id="worldmodel/ToyGame-v0",
    entry_point="envs.toy_game:ToyGame",
    vector_entry_point="envs.toy_game:ToyGameVector",
)

__all__ = [
    "Action",
    "BeliefWrapper",
    "DreamEnv",
    "DreamVectorEnv",
    "GymEnvironment",
    "ImageToCode",
    "ToyGame",
    "ToyGameFilter",
    "ToyGameVector",
    "ToyGameView",
    "View",
    "best_memoryless_policy",
    "draw_ring",
    "random_policy_steps",
    "ring_text",
    "solve_toy_game",
]
