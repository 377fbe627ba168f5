from .config import AgentConfig as AgentConfig
from .critics import Critic as Critic, SlowCritic as SlowCritic, TwoHotCritic as TwoHotCritic
from .exploration import (
    Exploring as Exploring,
    Uniform as Uniform,
    exploring as exploring,
)
from .human import Human as Human
from .image_encoder import EncodedAgent as EncodedAgent
from .imagination import Imagination as Imagination
from .planning import Planner as Planner
from .policy_gradient import (
    METHODS as METHODS,
    ActorCritic as ActorCritic,
    AllActions as AllActions,
    PathwiseGradient as PathwiseGradient,
    Policy as Policy,
    PolicyGradient as PolicyGradient,
    register_method as register_method,
)
from .policy_optimizers import PolicyOptimizer as PolicyOptimizer
from .presets import PRESETS as PRESETS
from .training import AgentTraining as AgentTraining
from .world_model_agent import Progress as Progress, WorldModelAgent as WorldModelAgent
