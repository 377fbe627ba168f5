"""Environments: the toy game, real worlds as Environments, dreams as Gymnasium environments."""

import gymnasium

from envs.belief_wrapper import BeliefWrapper
from envs.collect import collect
from envs.dream_env import DreamEnv, DreamVectorEnv, View
from envs.gymnasium_environment import GymEnvironment
from envs.image_code import CodeView, ImageToCode
from envs.make import arguments_from_json, make_environment, make_vector_env
from envs.showing import ObservationView, PoseView, action_names, as_picture, can_pose
from envs.toy_game import Action, ToyGame, ToyGameVector, draw_ring, ring_text
from envs.toy_game_filter import ToyGameFilter
from envs.toy_game_solver import best_memoryless_policy, random_policy_steps, solve_toy_game
from envs.toy_game_view import ToyGameView
from envs.workers import WorkerVectorEnv
from envs.wrappers import ActionRepeat, HideEntries, Images, velocities_of

gymnasium.register(
    id="worldmodel/ToyGame-v0",
    entry_point="envs.toy_game:ToyGame",
    vector_entry_point="envs.toy_game:ToyGameVector",
)

__all__ = [
    "Action",
    "ActionRepeat",
    "BeliefWrapper",
    "CodeView",
    "DreamEnv",
    "DreamVectorEnv",
    "GymEnvironment",
    "HideEntries",
    "ImageToCode",
    "Images",
    "ObservationView",
    "PoseView",
    "ToyGame",
    "ToyGameFilter",
    "ToyGameVector",
    "ToyGameView",
    "View",
    "WorkerVectorEnv",
    "action_names",
    "arguments_from_json",
    "as_picture",
    "best_memoryless_policy",
    "can_pose",
    "collect",
    "draw_ring",
    "make_environment",
    "make_vector_env",
    "random_policy_steps",
    "ring_text",
    "solve_toy_game",
    "velocities_of",
]
