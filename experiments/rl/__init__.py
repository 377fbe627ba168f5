"""Reinforcement learning: world models, policies in their dreams, evaluation."""
