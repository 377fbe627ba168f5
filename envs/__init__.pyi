from .belief_wrapper import BeliefWrapper as BeliefWrapper
from .checked import BrokenEnvironmentError as BrokenEnvironmentError
from .collecting import collect as collect
from .dream_env import DreamEnv as DreamEnv, DreamVectorEnv as DreamVectorEnv, View as View
from .gymnasium_environment import GymEnvironment as GymEnvironment
from .image_code import CodeView as CodeView, ImageToCode as ImageToCode
from .make import (
    arguments_from_json as arguments_from_json,
    make_environment as make_environment,
    make_vector_env as make_vector_env,
)
from .purpose import Purpose as Purpose, best_return as best_return, purpose_of as purpose_of
from .showing import (
    ObservationView as ObservationView,
    PoseView as PoseView,
    action_names as action_names,
    as_picture as as_picture,
    can_pose as can_pose,
    number_names as number_names,
)
from .source import EnvironmentSource as EnvironmentSource
from .toy_game import (
    Action as Action,
    ToyGame as ToyGame,
    ToyGameVector as ToyGameVector,
    draw_ring as draw_ring,
    ring_text as ring_text,
)
from .toy_game_filter import ToyGameFilter as ToyGameFilter
from .toy_game_solver import (
    best_memoryless_policy as best_memoryless_policy,
    random_policy_steps as random_policy_steps,
    solve_toy_game as solve_toy_game,
)
from .toy_game_view import ToyGameView as ToyGameView
from .views import VIEWS as VIEWS, register_view as register_view, view_for as view_for
from .workers import WorkerVectorEnv as WorkerVectorEnv
from .wrappers import (
    ActionRepeat as ActionRepeat,
    HideEntries as HideEntries,
    Images as Images,
    velocities_of as velocities_of,
)
