from .belief_wrapper import BeliefWrapper as BeliefWrapper
from .collect import collect as collect
from .dream_env import DreamEnv as DreamEnv
from .dream_env import DreamVectorEnv as DreamVectorEnv
from .dream_env import View as View
from .gymnasium_environment import GymEnvironment as GymEnvironment
from .image_code import CodeView as CodeView
from .image_code import ImageToCode as ImageToCode
from .make import (
    arguments_from_json as arguments_from_json,
)
from .make import (
    make_environment as make_environment,
)
from .make import (
    make_vector_env as make_vector_env,
)
from .showing import (
    ObservationView as ObservationView,
)
from .showing import (
    PoseView as PoseView,
)
from .showing import (
    action_names as action_names,
)
from .showing import (
    as_picture as as_picture,
)
from .showing import (
    can_pose as can_pose,
)
from .toy_game import (
    Action as Action,
)
from .toy_game import (
    ToyGame as ToyGame,
)
from .toy_game import (
    ToyGameVector as ToyGameVector,
)
from .toy_game import (
    draw_ring as draw_ring,
)
from .toy_game import (
    ring_text as ring_text,
)
from .toy_game_filter import ToyGameFilter as ToyGameFilter
from .toy_game_solver import (
    best_memoryless_policy as best_memoryless_policy,
)
from .toy_game_solver import (
    random_policy_steps as random_policy_steps,
)
from .toy_game_solver import (
    solve_toy_game as solve_toy_game,
)
from .toy_game_view import ToyGameView as ToyGameView
from .workers import WorkerVectorEnv as WorkerVectorEnv
from .wrappers import (
    ActionRepeat as ActionRepeat,
)
from .wrappers import (
    HideEntries as HideEntries,
)
from .wrappers import (
    Images as Images,
)
from .wrappers import (
    velocities_of as velocities_of,
)
