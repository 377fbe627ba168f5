"""Agents: minds and policies that face real and dreamt worlds alike."""

from agents.human import Human
from agents.imagination import Imagination
from agents.policy_gradient import ActorCritic, Critic, DynamicsGradient, EveryAction, Policy
from agents.sighted import Sighted
from agents.uniform import Uniform

__all__ = [
    "ActorCritic",
    "Critic",
    "DynamicsGradient",
    "EveryAction",
    "Human",
    "Imagination",
    "Policy",
    "Sighted",
    "Uniform",
]
