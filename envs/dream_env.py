"""A dream as a Gymnasium environment, single or vectorised, that any algorithm can train in."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, cast, get_args

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel import (
    Agent,
    BeliefAgent,
    Dream,
    DreamState,
    GenCore,
    GenState,
    ModelState,
    NullAgent,
    Row,
    nested,
)
from worldmodel.agent import no_action
from worldmodel.envs.observations import as_arrays, checked_actions, pick
from worldmodel.noise import OwnNoise

Observe = Literal["raw", "belief", "features"]


def belief_space(size: int) -> spaces.Box:
    """The space of beliefs: vectors of any finite numbers."""
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


class View(Protocol):
    """A display of games from their rows: a recurrence, and a picture of its state."""

    modes: tuple[str, ...]  # supported render modes, of `rgb_array` and `ansi`

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first rows of B games."""

    def step(self, row: Row, state: Any) -> Any:
        """The state after a row [B, ...]."""

    def draw(self, state: Any, mode: str) -> list[Any]:
        """Draws every game of a state, leaves [B, ...], as `rgb_array` (uint8 [H, W, 3]) or
        `ansi` (text)."""


class DreamVectorEnv(VectorEnv):
    """Many dreamt games at once: a GenCore whose actions come from outside.

    Observations are those of the real environment (`observe="raw"`), or the thoughts of a
    `BeliefAgent` that reads the model's "belief" or "features", float32 [F].
    Observations are clipped to the bounds of their space, which a density does not have,
    but enter beliefs as they were drawn. Rewards and ends are the model's; an episode is
    truncated at the dream's horizon. Draws its own noise: the same seed and the same number of
    games give the same dreams, and torch's global generator is left alone.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"]}  # noqa: RUF012

    def __init__(
        self,
        dream: Dream,
        num_envs: int,
        observe: Observe = "raw",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        view: View | None = None,
        begin: Callable[[int], ModelState] | None = None,
    ):
        """view: draws the first game where there is a `render_mode`.

        begin: so many model states, leaves [n, ...], that new games go on from; by default a game
        begins with the model's own first row. Beliefs hold the rows before; no picture does.
        """
        _check(dream, observe, autoreset_mode, render_mode, view, begin)
        self.dream = dream
        self.num_envs = num_envs
        self.observe = observe
        self.begin = begin
        self.metadata = {**self.metadata, "autoreset_mode": autoreset_mode}
        self.autoreset_mode = autoreset_mode
        self.render_mode = render_mode
        self.view = view
        agent: Agent = NullAgent()
        self.single_observation_space = dream.observation_space
        if observe != "raw":
            agent = BeliefAgent(dream.model, no_action, observe)
            self.single_observation_space = belief_space(agent.thought_size)
        self.core = GenCore(dream, agent)
        self.single_action_space = dream.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._noise: OwnNoise | None = None
        self._looking = OwnNoise(0)  # of the view: drawing a dream leaves it as it is
        self._shown: Any = None
        self._games: GenState | None = None
        self._pictured: Any = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins all games, or those of `options["reset_mask"]` (bool [n])."""
        if seed is not None and not isinstance(seed, int | np.integer):
            raise ValueError(
                "the games of a dream share one stream of noise: pass one seed, an integer"
            )
        if seed is not None or self._noise is None:
            self._np_random, self._np_random_seed = gymnasium.utils.seeding.np_random(
                None if seed is None else int(seed)
            )
            dreaming, looking = self._np_random.integers(2**62, size=2)
            self._noise, self._looking = OwnNoise(int(dreaming)), OwnNoise(int(looking))
        if options is not None and "reset_mask" in options and self._games is not None:
            mask = torch.as_tensor(np.asarray(options["reset_mask"], dtype=bool))
            self._shown = self._restart(mask.to(self.dream.model.device), self._shown)
        else:
            self._games = self.core.initial_state(self.num_envs)
            self._shown = self._restart(torch.ones_like(self.state.ended))
        return self._shown, {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dreams a row of every game; observations, rewards, terminated and truncated, [n] each,
        and info, with the last observations of games that were restarted in the same step."""
        if self._games is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        row = self._advance(checked_actions(self.action_space, actions))
        self._picture(row)
        ended = self._games.world.ended & ~row.first
        truncated = ended & ~row.terminated
        observation = self._observation(row)
        info: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            final, over = np.full(self.num_envs, None, dtype=object), ended.cpu().numpy()
            for game in np.flatnonzero(over):
                final[game] = pick(self.single_observation_space, observation, int(game))
            info = {"final_obs": final, "_final_obs": over}
            info |= {"final_info": {}, "_final_info": over}
            observation = self._restart(ended, observation)
        self._shown = observation
        return (
            observation,
            row.reward.cpu().double().numpy(),
            row.terminated.cpu().numpy(),
            truncated.cpu().numpy(),
            info,
        )

    def render(self) -> Any:
        """The first game, as its `view` draws it."""
        if self.view is None or self.render_mode is None:
            raise ValueError("this dream cannot be seen: pass render_mode= and view= to it")
        with self._looking():
            return self.view.draw(self._pictured, self.render_mode)[0]

    @property
    def state(self) -> DreamState:
        """The state of the dreams."""
        return cast(DreamState, cast(GenState, self._games).world)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next `step` depends on, after a `reset`."""
        return {"games": nested.leaves(self._games), "noise": cast(OwnNoise, self._noise).state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from `state`; the last observations have to be kept elsewhere."""
        games = nested.fill(self.core.initial_state(self.num_envs), state["games"])
        self._games = nested.to(games, self.dream.model.device)
        self._noise = OwnNoise(0)
        self._noise.state = state["noise"]

    @torch.no_grad()
    def _advance(self, action: Tensor | None = None) -> Row:
        """Takes one row of every game, after actions (values of the space), or none."""
        games = cast(GenState, self._games)
        if action is None:
            code = torch.zeros(self.num_envs, self.core.actions.size)
        else:
            code = self.core.actions.encode(action)
        code = code.to(self.dream.model.device)
        with cast(OwnNoise, self._noise)():
            (row, _), games = self.core.step(games._replace(action=code))
        self._games = games._replace(action=code)  # the agent's own has size 0
        return row

    def _restart(self, chosen: Tensor, shown: Any = None) -> Any:
        """Begins new episodes in the `chosen` games; the others stand still, and keep their
        observations `shown`."""
        games = cast(GenState, self._games)
        if self.begin is not None:
            self._games = self._begun(chosen)
            return self._observation(None, shown, chosen)
        self._games = games._replace(world=games.world._replace(ended=chosen))
        row = self._advance()
        self._games = nested.where(chosen, self._games, games)
        if chosen[0]:
            self._picture(row)
        return self._observation(row, shown, chosen)

    @torch.no_grad()
    def _begun(self, chosen: Tensor) -> GenState:
        """The games after a restart; those `chosen` begin where `begin` puts them."""
        games, agent = cast(GenState, self._games), cast(BeliefAgent, self.core.agent)
        with cast(OwnNoise, self._noise)():
            states = cast(Any, self.begin)(int(chosen.sum()))
        going_on = torch.zeros_like(states.history[:, 0, 0], dtype=torch.bool)
        world = self.dream.start(states, going_on)
        fresh = games._replace(world=world, mind=states, thought=agent.thought(states))
        fresh = fresh._replace(action=games.action[chosen])
        return nested.map(lambda old, new: old.index_put((chosen,), new), games, fresh)

    def _picture(self, row: Row) -> None:
        """Keeps the view of the first game up to date, if there is one."""
        if self.view is not None and self.render_mode is not None:
            with torch.no_grad(), self._looking():
                before = self._pictured
                if before is None:
                    before = self.view.initial_state(1)
                first = nested.to(nested.index(row, slice(1)), "cpu")
                self._pictured = self.view.step(first, before)

    def _observation(self, row: Row | None, old: Any = None, new: Tensor | None = None) -> Any:
        """The observations after a row (None: of beliefs alone); where `old` is given, that
        except where `new`."""
        raw = self.observe == "raw"
        value = cast(Row, row).observation if raw else cast(GenState, self._games).thought
        shown = as_arrays(self.single_observation_space, value)
        if old is None or new is None:
            return shown

        def choose(now: np.ndarray, before: np.ndarray) -> np.ndarray:
            return np.where(new.cpu().numpy().reshape(-1, *(1,) * (now.ndim - 1)), now, before)

        return nested.map(choose, shown, old)


def _check(
    dream: Any,
    observe: Observe,
    autoreset_mode: AutoresetMode,
    render_mode: str | None,
    view: View | None,
    begin: Any,
) -> None:
    """Refuses arguments that do not fit together, with a reason in one sentence."""
    if not isinstance(dream, Dream):
        raise ValueError(
            f"a Dream is expected, got a {type(dream).__name__}; pass Dream(model, horizon, "
            "observation_space, action_space), or run.dream() of a run that was loaded"
        )
    modes = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    if autoreset_mode not in modes:
        raise ValueError(f"autoreset_mode is one of {modes}, got {autoreset_mode!r}")
    if observe not in get_args(Observe):
        raise ValueError(f"observe is one of {get_args(Observe)}, got {observe!r}")
    if observe != "features" and not dream.draw_observations:
        raise ValueError(
            f"observe={observe!r} needs the observations that this dream does not draw: pass "
            "observe='features', or a Dream(draw_observations=True)"
        )
    if render_mode is not None and (view is None or render_mode not in ("rgb_array", "ansi")):
        raise ValueError(
            f"render_mode {render_mode!r} needs a view that draws it: pass view=..., and "
            "'rgb_array' or 'ansi'"
        )
    if begin is not None and (
        observe == "raw" or autoreset_mode != modes[1] or render_mode is not None
    ):
        raise ValueError(
            "games that go on from beliefs show beliefs, at once and in no picture: pass "
            "observe='belief' and autoreset_mode=AutoresetMode.SAME_STEP, and no render_mode"
        )


class DreamEnv(gymnasium.Env):
    """A single dreamt game; see `DreamVectorEnv` for its observations and noise."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        dream: Dream,
        observe: Observe = "raw",
        render_mode: str | None = None,
        view: View | None = None,
    ):
        self.games = DreamVectorEnv(dream, 1, observe, render_mode=render_mode, view=view)
        self.observation_space = self.games.single_observation_space
        self.action_space = self.games.single_action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins a dream; observation, info."""
        super().reset(seed=seed)
        observation, _ = self.games.reset(seed=seed)
        return pick(self.observation_space, observation, 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dreams one row; observation, reward, terminated, truncated, info."""
        observation, reward, terminated, truncated, _ = self.games.step(np.asarray(action)[None])
        observation = pick(self.observation_space, observation, 0)
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The game, as its `view` draws it."""
        return self.games.render()
