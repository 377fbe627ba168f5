"""Collectors: processes that play a run's real environment for it, on this machine or on others.

In each a `Player` is at work. It is sent versions of the policy, as weights, and sends episodes,
each of which says by which versions it was played. One alone waits for each version, and plays
what the run would have played by itself (`OneCollector`). Several play on while the run learns,
and send whole episodes (`Collectors`). A `Crew` knows where the processes are.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from worldmodel import Agent, Episodes, Greedy, timing
from worldmodel.agents.components import Components, Statistics
from worldmodel.agents.config import AgentConfig
from worldmodel.agents.exploration import Exploring, Uniform, exploring
from worldmodel.agents.training import AgentTraining
from worldmodel.agents.world import World
from worldmodel.envs import BrokenEnvironmentError, EnvironmentSource, GymEnvironment
from worldmodel.envs.collector import Collector
from worldmodel.envs.resumable import Resumable
from worldmodel.envs.workers import DEATHS
from worldmodel.noise import OwnNoise

PATIENCE = 60.0  # seconds without anything sent, after which it is said that one waits

State = tuple[Mapping[str, Any], Sequence[Sequence[int]]]  # of `Collector.state_dict`


class LostPlayerError(Exception):
    """A player is gone, or its environment broken; the reason."""


class Setup(NamedTuple):
    """The settings and the world of a run, for a player."""

    config: AgentConfig
    world: World
    prepare: Callable[[], Any] = tuple  # imports what registers parts of others


class Version(NamedTuple):
    """A version of the policy: random actions, or learned components as weights."""

    number: int
    persistence: float = 0.0  # of random actions
    statistics: dict[str, Any] | None = None  # of the components; None: actions are random
    weights: Mapping[str, Mapping[str, Tensor]] = {}  # by module
    chance: float = 0.0  # of a random action, where an algorithm has one
    exploration: float = 0.0  # the share of actions that are random besides
    is_greedy: bool = False  # of the others the most probable is taken


class Place(NamedTuple):
    """The place where a player begins."""

    seed: int  # of its first copy; the others' follow
    noise: int  # seed of its noise
    state: State


class Order(NamedTuple):
    """Steps that are to be played."""

    steps: int
    place: Place | None = None  # None: goes on
    whole: bool = True  # steps are those of whole episodes, which alone are sent
    noise: Tensor | None = None  # that actions are drawn from, a state; None: the player's own


class Played(NamedTuple):
    """The origin of an episode, which its seed and its actions are enough to play again."""

    seed: int  # of the copy
    number: int  # among the episodes of the copy, which seeds it together with the copy's seed
    first: int  # version of the policy
    last: int


class Sent(NamedTuple):
    """Episodes as a player sends them, and where it stands."""

    parts: list[Episodes]
    played: list[Played]  # one for each episode
    taken: int  # steps, those of unfinished episodes too
    state: State  # after it; unfinished episodes are in it only if `Order.whole` is false
    began: list[int]  # versions by which the unfinished episodes of the copies began
    noise: Tensor


class Player:
    """Plays the real environment of a run by the policies that it is sent."""

    def __init__(self, setup: Setup):
        torch.set_num_threads(1)
        setup.prepare()
        self.setup = setup
        self._collector: Collector
        self._noise: OwnNoise
        self._began: list[int]
        self._components: Components | None = None
        self._loaded: tuple[dict[str, Any] | None, int] = (None, -1)  # statistics and version

    def begin(self, place: Place) -> list[Episodes]:
        """Makes the environment, and goes on with unfinished episodes; returns those of them that
        cannot be gone on with."""
        world, (tensors, episodes) = self.setup.world, place.state
        self._collector = Collector(world.num_envs)
        self._collector.load_state_dict(tensors, episodes)
        self._noise = OwnNoise(place.noise)
        self._began = [int(version) for version in tensors.get("began", np.zeros(world.num_envs))]
        wrap = functools.partial(Resumable, limit=world.collected_limit)
        environment = world.environment(world.num_envs, place.seed, wrap=wrap)
        self._seeds = place.seed + np.arange(world.num_envs)
        return self._collector.open(environment, place.seed)

    def play(self, policy: Version, order: Order) -> Sent:
        """Plays as it is ordered."""
        if order.place is not None:
            self.begin(order.place)
        if order.noise is not None:
            self._noise.state = [order.noise]
        agent, collector, version = self._agent(policy), self._collector, policy.number
        goes_on = collector.going_on
        numbers = [n + (not on) for (_, n), on in zip(self._episodes, goes_on, strict=True)]
        began = [b if on else version for b, on in zip(self._began, goes_on, strict=True)]
        parts, played = [], []
        with self._noise():
            for episodes in collector.play(agent, order.steps, whole=order.whole):
                parts.append(episodes)
                for copy in collector.ended:
                    seed = int(self._seeds[copy])
                    played.append(Played(seed, numbers[copy], began[copy], version))
                    numbers[copy], began[copy] = numbers[copy] + 1, version
        self._began = began
        state: State = ({}, self._episodes) if order.whole else collector.state_dict()
        return Sent(parts, played, collector.taken, state, began, self._noise.state[0])

    @property
    def _episodes(self) -> list[list[int]]:
        """The seed of each copy and the number of its latest episode."""
        return self._collector.state_dict()[1]

    def _agent(self, policy: Version) -> Agent:
        world, statistics = self.setup.world, policy.statistics
        if statistics is None:
            return Uniform(world.action_space, policy.persistence)
        if self._components is None or statistics != self._loaded[0]:
            spaces = world.observation_space, world.action_space
            with OwnNoise(0)():
                self._components = Components(self.setup.config, Statistics(**statistics), *spaces)
        if (statistics, policy.number) != self._loaded:
            for name, weights in policy.weights.items():
                self._components.modules[name].load_state_dict(weights)
            if self._components.algorithm is not None:
                algorithm: Any = self._components.algorithm.algorithm
                algorithm.exploration_rate = policy.chance
            self._loaded = statistics, policy.number
        player = self._components.player
        player = Greedy(player) if policy.is_greedy else player
        return exploring(player, world.action_space, policy.exploration)


class Crew(ABC):
    """Processes that players are at work in. What is called there is over at some time."""

    @abstractmethod
    def hire(self, setup: Setup) -> Any:
        """Begins a process with a player."""

    @abstractmethod
    def dismiss(self, player: Any) -> None:
        """Ends the process of a player, if there still is one."""

    @abstractmethod
    def publish(self, policy: Version) -> Any:
        """Puts a policy where all players find it, as it is now."""

    @abstractmethod
    def call(self, player: Any, method: str, *arguments: Any) -> Any:
        """Calls a method of a player, after those that were called before; does not wait."""

    @abstractmethod
    def over(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """Those of some calls that are over; waits for one, for so many seconds at most."""

    @abstractmethod
    def result(self, call: Any) -> Any:
        """The result of a call, when it is over; what the player raised is raised.

        Raises LostPlayerError where the player is gone.
        """


class _Far(Collector):
    """Collectors in other processes, of either kind."""

    def __init__(
        self, training: AgentTraining, crew: Crew, number: int, prepare: Callable[[], Any]
    ):
        super().__init__(number * training.world.num_envs)
        source = cast(EnvironmentSource, training.world.source).near
        world = training.world._replace(source=source, data=None, chosen=None, workers=0)
        self.setup = Setup(training.config, world, prepare)
        self._training = training
        self._crew = crew
        self._seed: int | None = None  # of the first copy; None: it is not open
        self._version = -1  # of the policy, the latest
        self._deaths = np.zeros(number, np.int64)  # since the last that was sent

    @property
    def is_open(self) -> bool:
        return self._seed is not None

    def _policy(self, agent: Agent) -> Version:
        """The next version of the policy."""
        self._version += 1
        if isinstance(agent, Uniform):
            return Version(self._version, agent.persistence)
        components = cast(Components, self._training.components)
        return Version(
            self._version,
            statistics=cast(Statistics, self._training.statistics)._asdict(),
            weights={
                name: {key: value.detach().cpu() for key, value in part.state_dict().items()}
                for name, part in components.acting_modules.items()
            },
            chance=float(
                getattr(getattr(components.algorithm, "algorithm", None), "exploration_rate", 0.0)
            ),
            exploration=agent.share if isinstance(agent, Exploring) else 0.0,
            is_greedy=isinstance(agent.agent if isinstance(agent, Exploring) else agent, Greedy),
        )

    def _note(self, played: Sequence[Played]) -> None:
        self.figures["seeds"] += [[one.seed, one.number] for one in played]
        self.figures["versions"] += [[one.first, one.last] for one in played]

    def _begin_round(self, agent: Agent) -> Any:
        """Publishes the policy of a round."""
        self.taken, self.figures = 0, {"seeds": [], "versions": []}
        return self._crew.publish(self._policy(agent))

    def _result(self, number: int, call: Any, after: str) -> Any:
        """The result of a call; None if the collector is lost, of whose work `after` says what
        becomes."""
        try:
            result = self._crew.result(call)
        except (LostPlayerError, BrokenEnvironmentError) as error:
            self._deaths[number] += 1
            if self._deaths[number] == DEATHS:
                raise BrokenEnvironmentError(
                    f"collector {number} died {DEATHS} times and sent nothing in between, now of "
                    f"this: {error}; another one does not fix it"
                ) from error
            self._training.say(f"collector {number} died ({error}); another one {after}")
            return None
        self._deaths[number] = 0
        return result


class OneCollector(_Far):
    """A collector in another process that plays what one in this process would, to the last bit:
    it is sent the noise that actions are drawn from, and waits for each version of the policy.

    Another one that takes its place plays its unfinished episodes again, and nothing is lost.
    """

    def __init__(self, training: AgentTraining, crew: Crew, prepare: Callable[[], Any] = tuple):
        super().__init__(training, crew, 1, prepare)
        self._player: Any = None
        self._began = [0] * self.copies

    def begin(self, make: Callable[[], GymEnvironment], seed: int) -> list[Episodes]:
        self._seed = seed
        return self._hired()

    def close(self) -> None:
        if self._player is not None:
            self._crew.dismiss(self._player)
        self._player = self._seed = None

    def play(
        self, agent: Agent, steps: int, ticks: int = 64, whole: bool = False
    ) -> Iterator[Episodes]:
        policy = self._begin_round(agent)
        order = Order(steps, whole=False, noise=torch.get_rng_state())
        sent: Sent | None = None
        while sent is None:
            call = self._crew.call(self._player, "play", policy, order)
            sent = self._result(0, call, "plays its unfinished episodes again")
            if sent is None:
                yield from self._hired()
        torch.set_rng_state(sent.noise)
        super().load_state_dict(*sent.state)
        self.taken, self._began = sent.taken, sent.began
        self._note(sent.played)
        yield from sent.parts

    def state_dict(self) -> tuple[dict[str, Any], list[list[int]]]:
        tensors, episodes = super().state_dict()
        versions = {"version": torch.tensor(self._version), "began": torch.tensor(self._began)}
        return tensors | versions, episodes

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Sequence[int]]) -> None:
        super().load_state_dict(state, episodes)
        if "began" in state and len(state["began"]) == self.copies:
            self._began = state["began"].tolist()
        self._version = int(state.get("version", -1))

    def _hired(self) -> list[Episodes]:
        """Hires a player, which goes on where the last one was; returns the episodes that cannot
        be gone on with."""
        while True:
            if self._player is not None:
                self._crew.dismiss(self._player)
            self._player = self._crew.hire(self.setup)
            place = Place(cast(int, self._seed), 0, self.state_dict())
            call = self._crew.call(self._player, "begin", place)
            lost = self._result(0, call, "is tried")
            if lost is not None:
                self._given_up = []
                return lost


class _Seat:
    """The place of one of several collectors."""

    def __init__(self) -> None:
        self.player: Any = None
        self.call: Any = None  # to play, whose result has not been taken yet
        self.number = 0  # of that order, among all


class Collectors(_Far):
    """Several collectors, which play on while the run learns, and send whole episodes.

    Each has one order at a time, of its share of a round, and gets the next one, with the newest
    policy, when what it sent is taken; so none is farther ahead than that. A round takes what has
    been sent, in the order of the orders, and waits only for what its share of steps lacks: a
    collector that is slow or gone does not stop the others. What a round takes too much, the next
    ones take less. A collector that dies is replaced by one with other noise, which begins with
    the episodes that follow those that were sent. What was not taken is dropped when a run stops.
    """

    def __init__(
        self,
        training: AgentTraining,
        crew: Crew,
        number: int,
        prepare: Callable[[], Any] = tuple,
    ):
        super().__init__(training, crew, number, prepare)
        self._seats = [_Seat() for _ in range(number)]
        self._hirings = np.zeros(number, np.int64)  # players of each place so far
        self._orders = 0
        self._due = 0  # steps that rounds have planned and not taken; below 0: taken ahead

    def begin(self, make: Callable[[], GymEnvironment], seed: int) -> list[Episodes]:
        self._seed = seed
        lost, self._given_up = self._given_up, []
        return lost

    def close(self) -> None:
        for seat in self._seats:
            self._dismiss(seat)
        self._seed = None

    def play(
        self, agent: Agent, steps: int, ticks: int = 64, whole: bool = True
    ) -> Iterator[Episodes]:
        policy, share = self._begin_round(agent), math.ceil(steps / len(self._seats))
        self._due += steps
        for number, seat in enumerate(self._seats):
            if seat.call is None:
                self._order(number, policy, share)
        while self._due > 0:
            for number in self._over():
                if self._due <= 0:
                    break
                sent = self._take(number)
                self._order(number, policy, share)
                yield from [] if sent is None else sent.parts

    def state_dict(self) -> tuple[dict[str, Any], list[list[int]]]:
        """The episodes up to which those of each copy were taken; there are no unfinished ones."""
        tensors, episodes = super().state_dict()
        tensors |= {"version": torch.tensor(self._version), "due": torch.tensor(self._due)}
        return tensors | {"hirings": torch.from_numpy(self._hirings.copy())}, episodes

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Sequence[int]]) -> None:
        super().load_state_dict(state, episodes)
        self._given_up = self.unfinished
        self._running = [None] * self.copies
        self._version, self._due = int(state.get("version", -1)), int(state.get("due", 0))
        if "hirings" in state and len(state["hirings"]) == len(self._seats):
            self._hirings = state["hirings"].numpy().copy()

    def _order(self, number: int, policy: Any, steps: int) -> None:
        """Orders steps, of a new player where there is none."""
        seat, place = self._seats[number], None
        if seat.player is None:
            seat.player, place = self._crew.hire(self.setup), self._place(number)
        seat.call = self._crew.call(seat.player, "play", policy, Order(steps, place))
        seat.number, self._orders = self._orders, self._orders + 1

    def _place(self, number: int) -> Place:
        """The place where a new player begins."""
        each, hirings = self.setup.world.num_envs, int(self._hirings[number])
        self._hirings[number] += 1
        noise = self.setup.config.seed  # of the first: that of a run without collectors
        if number or hirings:
            key = (4, number, hirings)
            sequence = np.random.SeedSequence(self.setup.config.seed, spawn_key=key)
            noise = int(sequence.generate_state(1)[0])
        nothing = {"lengths": torch.zeros(each, dtype=torch.int64)}
        copies = slice(number * each, (number + 1) * each)
        seed = cast(int, self._seed) + number * each
        return Place(seed, noise, (nothing, self._episodes[copies].tolist()))

    def _over(self) -> list[int]:
        """The collectors that have sent something, or died, by the order of their orders; waits
        for one."""
        while True:
            calls = [seat.call for seat in self._seats]
            with timing.spent(timing.COLLECTORS):
                over = self._crew.over(calls, PATIENCE)
            found = [number for number, call in enumerate(calls) if call in over]
            if found:
                return sorted(found, key=lambda number: self._seats[number].number)
            self._training.say(
                f"no collector has sent an episode for {PATIENCE:g} seconds: they play long ones, "
                "or the cluster has no room for them (`ray status`); going on waiting"
            )

    def _take(self, number: int) -> Sent | None:
        """Takes what a collector has sent; None if it is lost."""
        seat, each = self._seats[number], self.setup.world.num_envs
        after = "takes its place; episodes that it had not sent are dropped"
        sent: Sent | None = self._result(number, seat.call, after)
        seat.call = None
        if sent is None:
            self._dismiss(seat)
            return None
        self._episodes[number * each : (number + 1) * each] = sent.state[1]
        steps = sum(part.steps for part in sent.parts)
        self.taken, self._due = self.taken + steps, self._due - steps
        self._note(sent.played)
        return sent

    def _dismiss(self, seat: _Seat) -> None:
        if seat.player is not None:
            self._crew.dismiss(seat.player)
        seat.player = seat.call = None
