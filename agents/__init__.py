"""Agents: minds and policies that face real and dreamt worlds alike."""

from agents.human import Human
from agents.policy_gradient import ActorCritic, Critic, EveryAction, Policy
from agents.uniform import Uniform

__all__ = ["ActorCritic", "Critic", "EveryAction", "Human", "Policy", "Uniform"]
