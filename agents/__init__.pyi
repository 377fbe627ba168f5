from .human import Human as Human
from .imagination import Imagination as Imagination
from .policy_gradient import (
    ActorCritic as ActorCritic,
)
from .policy_gradient import (
    Critic as Critic,
)
from .policy_gradient import (
    DynamicsGradient as DynamicsGradient,
)
from .policy_gradient import (
    EveryAction as EveryAction,
)
from .policy_gradient import (
    Policy as Policy,
)
from .sighted import Sighted as Sighted
from .uniform import Uniform as Uniform
