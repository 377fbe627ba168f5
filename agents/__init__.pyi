from .human import Human as Human
from .imagination import Imagination as Imagination
from .policy_gradient import (
    METHODS as METHODS,
)
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
from .policy_gradient import (
    make_method as make_method,
)
from .policy_gradient import (
    register_method as register_method,
)
from .sighted import Sighted as Sighted
from .uniform import Uniform as Uniform
