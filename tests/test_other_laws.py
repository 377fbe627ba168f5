"""The laws of environments and agents, over all that there are."""

import importlib
import inspect
import pkgutil

import torch
from cores import CORES, SYMBOLS, make_model
from games import Nested
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from laws import every_law_of

import worldmodel
from worldmodel import (
    Agent,
    AgentWrapper,
    BeliefAgent,
    Dream,
    Environment,
    Greedy,
    Memoryless,
    Metronome,
    NullAgent,
    Script,
    action_codec,
    autoencoder_for,
    encoder_for,
    model_for,
)
from worldmodel.agents import (
    Critic,
    EncodedAgent,
    Exploring,
    Human,
    Planner,
    Policy,
    Uniform,
    sb3,
)
from worldmodel.agents.graph_agent import GraphAgent
from worldmodel.agents.health import WatchedDream
from worldmodel.envs import DreamVectorEnv, GymEnvironment, ToyGame, ToyGameVector, make_vector_env
from worldmodel.graphs.engine import GraphFunction
from worldmodel.testing import (
    AGENT_LAWS,
    ENVIRONMENT_LAWS,
    AgentCase,
    EnvironmentCase,
    check_agent,
    check_environment,
)

ACTIONS = spaces.Discrete(3)


def dream(name):
    def make():
        model = make_model(name, history=2, actions=3)
        return Dream(model, 3, SYMBOLS, ACTIONS)

    return EnvironmentCase(make, dtype=torch.float64, name=f"dream of {name}")


def side_by_side(make, copies=4):
    return lambda: GymEnvironment(
        SyncVectorEnv([make] * copies, autoreset_mode=AutoresetMode.NEXT_STEP), seed=1
    )


ENVIRONMENTS = {
    "toy game": lambda: GymEnvironment(ToyGameVector(4, 2, 2, time_limit=3), seed=1),
    "toy games side by side": side_by_side(lambda: ToyGame(2, 3, "copy", time_limit=5)),
    "cart and pole": lambda: GymEnvironment(make_vector_env("CartPole-v1", copies=4), seed=1),
    "pendulum": lambda: GymEnvironment(make_vector_env("Pendulum-v1", copies=4), seed=1),
    "nested": side_by_side(lambda: Nested((3, 4))),
}
CASES = {name: EnvironmentCase(make, name=name) for name, make in ENVIRONMENTS.items()}
CASES |= {f"dream of {name}": dream(name) for name in CORES}
CASES["watched dream"] = EnvironmentCase(
    lambda: WatchedDream(dream("rnn").make()), dtype=torch.float64, name="watched dream"
)


@every_law_of(ENVIRONMENT_LAWS, CASES)
def test_every_environment_obeys(law, case, setting):
    law(case, **setting)


def test_every_environment_is_in_the_list():
    assert {type(case.make()) for case in CASES.values()} == set(complete(Environment))


def test_one_environment_is_as_good_as_what_makes_it():
    check_environment(dream("vrnn").make(), dtype=torch.float64)
    check_environment(ENVIRONMENTS["toy game"])


# Agents.


BOX = spaces.Box(-2.0, 2.0, (2,))
NUMBERS = spaces.Box(-10.0, 10.0, (2,))
PICTURES = spaces.Box(0, 255, (8, 8, 1), "uint8")
BITS = spaces.MultiBinary(2)


def double(name, make, observations=SYMBOLS, actions=ACTIONS):
    torch.manual_seed(0)
    return AgentCase(make(), observations, actions, torch.float64, name)


def believer(name, greedy=False):
    model = make_model(name, history=2, actions=3)
    agent = BeliefAgent(model, Policy(model.belief_size, action_codec(ACTIONS), 8).double())
    return Greedy(agent) if greedy else agent


def memoryless(actions):
    encoder = encoder_for(NUMBERS)
    return Memoryless(encoder, Policy(encoder.size, action_codec(actions), 8))


def single(name, agent, observations=NUMBERS, actions=ACTIONS):
    return AgentCase(agent, observations, actions, name=name)


def human():
    agent = Human(memoryless(ACTIONS), ACTIONS)
    agent.press(2)
    return agent


def encoded_agent():
    encoder = autoencoder_for((8, 8, 1), latent=2, hidden=8, width=2)
    return EncodedAgent(memoryless(ACTIONS), encoder)


def remembering():
    dream = Dream(make_model("rnn").float(), 5, SYMBOLS, BINARY)
    games = DreamVectorEnv(dream, 2, observe="belief", autoreset_mode=AutoresetMode.SAME_STEP)
    options = {"n_steps": 8, "policy_kwargs": {"lstm_hidden_size": 4}}
    head = sb3.Head(sb3.Learner("RecurrentPPO", games, options).algorithm)
    return sb3.Remembering(BeliefAgent(make_model("rnn").float(), head), head)


def planner(actions, name="rnn", reads="belief"):
    model = model_for(SYMBOLS, actions, name, 4, [-1.0, 0.5])
    size = model.belief_size if reads == "belief" else model.core.feature_size
    agent = BeliefAgent(model, Policy(size, action_codec(actions), 8), reads)
    dream = Dream(model, 9, SYMBOLS, actions)
    return Planner(agent, dream, Critic(size, 8), length=3, plans=12, draws=2)


def graph_agent():
    model = model_for(SYMBOLS, ACTIONS, "rnn", 4, [-1.0, 0.5])
    agent = BeliefAgent(model, Policy(model.belief_size, action_codec(ACTIONS), 8))
    return GraphAgent(agent, str, lambda step, say: GraphFunction(step, say, [model]))


BINARY = spaces.Discrete(2)
METRONOME = Metronome(steps=2, beats=3)


def agents():
    torch.manual_seed(0)
    for name in ("rnn", "srnn smoothing", "vrnn", "rssm categorical", "independent smoothing"):
        yield double(f"believer of {name}", lambda name=name: believer(name))
    yield double("greedy", lambda: believer("vrnn", greedy=True))
    for actions in (ACTIONS, BOX, BITS, spaces.MultiDiscrete([2, 3])):
        yield single(f"memoryless in {actions}", memoryless(actions), actions=actions)
        yield single(f"uniform in {actions}", Uniform(actions), actions=actions)
        exploring = Exploring(memoryless(actions), actions, 0.3)
        yield single(f"exploring in {actions}", exploring, actions=actions)
        yield single(f"planner in {actions}", planner(actions), SYMBOLS, actions)
    for name, reads in (("vrnn", "belief"), ("rssm", "features")):
        case = planner(ACTIONS, name, reads)
        yield single(f"planner from {reads} of {name}", case, SYMBOLS)
    yield single("uniform that persists", Uniform(ACTIONS, 0.5))
    yield single("wrapped", AgentWrapper(Uniform(ACTIONS)))
    yield single("human", human())
    yield single("graph agent", graph_agent(), SYMBOLS)
    yield single("encoded agent", encoded_agent(), PICTURES)
    yield single("metronome", METRONOME, actions=METRONOME.action_space)
    script = Script.of(torch.tensor([0, 1, 1, 0, 1]), BINARY)
    yield single("script", script, actions=BINARY)
    yield single("null agent", NullAgent(), actions=spaces.Box(-1.0, 1.0, (0,)))
    yield single("remembering", remembering(), SYMBOLS, BINARY)


AGENTS = {str(case): case for case in agents()}


@every_law_of(AGENT_LAWS, AGENTS)
def test_every_agent_obeys(law, case, setting):
    law(case, **setting)


def test_every_agent_is_in_the_list():
    assert {type(case.agent) for case in AGENTS.values()} == set(complete(Agent))


def test_an_agent_is_checked_in_one_call():
    check_agent(Uniform(ACTIONS), NUMBERS, ACTIONS)


def complete(base):
    """The complete classes under `base` of the library, of environments and of agents."""
    for package in (worldmodel, worldmodel.envs, worldmodel.agents):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not info.ispkg and not info.name.endswith("__main__"):
                importlib.import_module(info.name)

    def under(kind):
        for below in kind.__subclasses__():
            yield from under(below)
            ours, part, *_ = [*below.__module__.split("."), ""]
            is_complete = not inspect.isabstract(below)
            if is_complete and ours == "worldmodel" and part not in ("experiments", "testing"):
                yield below

    return under(base)
