"""The training of a world-model agent: collect, learn a world model, train a policy in its dream.

Rounds of some stages: collect (at random first, then by the policy so far), encode (a VAE of
images, where these are observed), choose (in the first round, a weight decay), learn (the world
model, from all that was collected), improve (the policy, in the dream alone), evaluate (real and
dreamt episodes, for the learning curve).
"""

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from worldmodel import (
    Agent,
    Episodes,
    EpisodeStats,
    EpisodeStore,
    Greedy,
    Job,
    Learner,
    Replay,
    Stage,
    WorldModel,
    play_episodes,
    ranks,
)
from worldmodel.agents import scoring
from worldmodel.agents.components import (
    Components,
    Statistics,
    algorithm_options,
    learner_for,
    optimizer_for,
)
from worldmodel.agents.config import NEAR_DISCOUNT, AgentConfig
from worldmodel.agents.disagreement import Curiosity
from worldmodel.agents.exploration import Uniform, exploring
from worldmodel.agents.health import Met, WatchedDream, health
from worldmodel.agents.image_encoder import (
    ImageEncoderTraining,
    encoded,
    encoded_store,
    explain,
    is_encoded,
)
from worldmodel.agents.playing import Playing
from worldmodel.agents.policy_gradient import Bonus
from worldmodel.agents.policy_optimizers import GradientOptimizer, PolicyOptimizer
from worldmodel.agents.regularisation import CANDIDATES, WeightDecayChoice
from worldmodel.agents.rounds import Rounds
from worldmodel.agents.world import World, evaluation_seeds
from worldmodel.codecs import MixedHead, atoms_of, groups_of, heads_of
from worldmodel.devices import CPU
from worldmodel.envs.collector import Collector
from worldmodel.graphs.engine import check_onnxruntime
from worldmodel.job import Metrics, Title
from worldmodel.noise import OwnNoise

IN_A_ROW = 3  # evaluations that have to reach a return for training to stop there
SCORED = 50  # new episodes, at most, by which the model is judged
LATEST = 0.05  # weight of an update's loss in what episodes that are learned from cost
AT_RANDOM = 3  # rounds, the last of which is played at random while novelty is sought
FAR, GROWN = 0.05, 1.5  # share of dreamt steps beyond what was met, and its growth, that are told
OUTGROWN = 3.0  # times that rewards are as large as in the first collection
MANY_DREAMT = 30_000  # steps of dreams side by side, for which it pays to compile them
COMPARED = 64  # dreams by which a round's policy is compared with the one before
LONG = 1_000  # steps of each of them, at most
CLEARLY = 2.0  # standard errors of the difference, from which on the new one is undone
DECIDED = 0.05  # least entropy, a share, of a policy that has a long way to what is new
STEADY = 0.9  # probability of the last action in random play that goes on for want of a goal


class AgentTraining(Job):
    """The training of an agent, which can be extended by more steps."""

    titles: ClassVar[Mapping[str, Title]] = {
        "collect": Title("playing", "phase"),
        "read": Title("reading recorded episodes", "phase"),
        "encode": Title("learning to encode images", "updates"),
        "choose": Title("choosing a weight decay", "updates"),
        "learn": Title("learning", "updates"),
        "improve": Title("dreaming", "rollouts"),
        "evaluate": Title("evaluating", "times"),
    }
    looks: ClassVar[frozenset[str]] = frozenset({"evaluate"})

    def __init__(
        self,
        config: AgentConfig,
        world: World,
        store: EpisodeStore,
        curve_episodes: int = 0,
        say: Callable[[str], None] = lambda text: None,
        stop_at: float | None = None,
        device: torch.device = CPU,
        collector: "Callable[[AgentTraining], Collector] | None" = None,
    ):
        """store: where episodes are kept; curve_episodes: real episodes after each round, for the
        learning curve, 0: none; say: called with sentences on the progress; stop_at: mean return
        that ends training once `IN_A_ROW` evaluations in a row have reached it; device: of the
        networks and of dreams; collector: makes the one that plays, by default in this process."""
        super().__init__(config.seed)
        self.config = config
        self.world = world
        self.store = store
        self.curve_episodes = curve_episodes
        self.say = say
        self.stop_at = stop_at
        self.device = device
        self._curve: list[float] = []  # mean returns, an evaluation each
        self._errors: list[float] = []  # their standard errors
        self._counted = 0  # evaluations that no longer count for `stop_at`
        self.components: Components | None = None  # made after the first collection
        self.statistics: Statistics | None = None
        self._plan = Rounds(config, world, curve_episodes > 0)
        self.replay: Replay
        self.learner: Learner
        self.optimizer: PolicyOptimizer
        copies = world.side_by_side(world.num_envs)
        self._playing = Playing(
            world,
            store,
            Collector(copies) if collector is None else collector(self),
            int(self._seeds(2).generate_state(1)[0]),
            lambda line: self.say(line),  # whoever listens then
        )
        self._figures: dict[str, float] = {}  # the latest, by name, for `health`
        self._weight_decay = 0.0  # that was chosen
        self._choice: WeightDecayChoice | None = None  # while it is chosen
        self._sought_novelty = False  # when the policy was last trained
        self._curiosity: Curiosity
        self._encoding: ImageEncoderTraining | None = None  # while the image encoder learns

    def extend(self, steps: int) -> None:
        """Plans the collection of `steps` more steps, and learning from them.

        Stages that are left from before come first, but for those that `stop_at` has spared.
        """
        if steps < 1:
            raise ValueError(f"an agent learns from one step or more, got {steps}")
        if self.has_reached:
            self.cut()
            self._counted = len(self._curve)
        self._plan.extend(self.stages, steps)
        if self.components is not None:
            self._compile()

    @property
    def real_steps(self) -> int:
        """Steps of the environment so far."""
        return self._playing.steps

    @property
    def _met(self) -> Met:
        """All that was met in the real environment so far."""
        return self._playing.met

    @property
    def has_reached(self) -> bool:
        """True once enough evaluations in a row have reached `stop_at`."""
        latest = self._curve[self._counted :][-IN_A_ROW:]
        return (
            self.stop_at is not None
            and len(latest) == IN_A_ROW
            and all(mean >= self.stop_at for mean in latest)
        )

    @property
    def is_done(self) -> bool:
        return super().is_done or self.has_reached

    @property
    def is_best(self) -> bool:
        """True if the latest evaluation is as good as the best one, as far as its few episodes can
        tell: what has learned longer is then the better choice."""
        if self.done or not self._curve or self.stages[self.stage - 1].kind != "evaluate":
            return False
        best = int(np.argmax(self._curve))
        error = math.hypot(self._errors[best], self._errors[-1])
        return self._curve[-1] >= self._curve[best] - error

    def cut(self) -> None:
        """Ends the current stage early, and drops those after it."""
        kept = self.stages[: self.stage]
        if self.done:
            kept.append(self.stages[self.stage]._replace(units=self.done))
            self.end_stage(kept[-1])
        self.stages, self.stage, self.done = kept, len(kept), 0
        self._plan.cut(kept)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {} if self.components is None else self.components.modules | self.learner.modules

    def work(self, stage: Stage) -> Metrics:
        units = {
            "collect": self._collect,
            "read": self._read,
            "encode": self._encode,
            "choose": self._choose,
            "learn": self._learn,
            "improve": self._improve,
            "evaluate": self._evaluate,
        }
        return units[stage.kind](stage)

    def steps(self, stage: Stage, metrics: Metrics) -> int:
        if stage.kind == "collect":
            return int(metrics["steps"])
        if stage.kind == "improve" and metrics:
            rollouts = cast(Components, self.components).rollouts
            return rollouts.num_imagined * rollouts.length
        return 0

    def note(self, stage: Stage, metrics: Metrics) -> str:
        if stage.kind in ("collect", "read"):
            return f"{metrics['episodes']} episodes, {metrics['steps']} steps"
        if stage.kind == "encode":
            return f"loss {metrics['nats']:.2f} nats per image"
        if stage.kind in ("choose", "learn"):
            return f"loss {metrics['nats']:.4f} nats per step"
        if stage.kind == "improve":
            shown = (key for key in ("value", "entropy", "reward") if key in metrics)
            return ", ".join(f"{key} {metrics[key]:.2f}" for key in shown)
        returns = np.array(metrics["real_returns"])
        return f"return {returns.mean():,.2f} ± {returns.std():,.2f} after {self.real_steps} steps"

    def end_stage(self, stage: Stage) -> None:
        if self.components is None:
            self._build(self._statistics())
            self.replay.episodes = self._learned_from()
            self._standardise()
            self._revise(self.replay.episodes.typical().rewards)
            self.optimizer.begin()
        elif stage.kind == "learn":
            self.learner.keep_average()
        elif stage.kind == "improve":
            self._keep_the_better(stage)
        elif stage.kind == "choose":
            self._end_choice()
        elif stage.kind == "encode":
            encoding = cast(ImageEncoderTraining, self._encoding)
            active = encoding.finish()
            self._encoding = None
            self.replay.episodes = self._learned_from()
            self.say(
                f"{active} of the {self.config.images.vae_latent} numbers of a code are active; "
                "all recorded images are encoded anew"
            )
            self._standardise()  # codes have another scale than they had
        if self.is_done or self.stages[self.stage].round > stage.round:
            self.say(health(stage.round, self._met, self._figures))
        if stage.kind == "evaluate" and self.has_reached:
            self.say(
                f"the return was {self.stop_at:g} or more in {IN_A_ROW} evaluations in a row: "
                f"training ends after {self.real_steps:,} steps"
            )

    def _collect(self, stage: Stage) -> Metrics:
        collect = self.config.collect
        if stage.round == 0:
            torch.manual_seed(self.config.seed)
            agent: Agent = Uniform(self.world.action_space, collect.sticky_probability or 0.0)
            return self._playing.play(agent, self._plan.collections[0], 1.0)
        components, since = cast(Components, self.components), self._playing.finished
        self.replay.rewind(since)
        every = collect.greedy_every
        player = components.player
        if every and stage.round % every == 0:
            player = Greedy(player)
        agent = exploring(player, self.world.action_space, collect.exploration)
        weight = collect.policy_weight
        if self._is_searching:  # which explores enough
            agent, weight = components.player, 1.0
            if not self._seeks_novelty or stage.round % AT_RANDOM == 0:
                self.say(f"{self._met}: nothing to seek was met yet, so playing goes on at random")
                sticky = collect.sticky_probability
                agent = Uniform(self.world.action_space, STEADY if sticky is None else sticky)
            else:
                self.say(f"{self._met}: nothing to seek was met yet but what is not known")
        metrics = self._playing.play(agent, self._plan.collections[stage.round], weight)
        if components.image_encoder is not None and len(self.store) > since:
            self.replay.add(encoded(self.store, components.image_encoder, since), weight)
        metrics |= self._new_nats(since)
        if len(self.store) > since:
            new = self.replay.episodes.select(np.arange(since, len(self.store)))
            self._meet(new)
            self._revise(new.rewards)
        if self._met.unit > OUTGROWN * cast(Statistics, self.statistics).reward_unit:
            self._rescale()
        return metrics

    def _revise(self, latest: np.ndarray) -> None:
        """Lets rewards that recur, or lie apart, be values, where others have a density; latest:
        those that came last."""
        rewards = cast(Components, self.components).model.percepts.decoder.reward
        if isinstance(rewards, MixedHead) and rewards.others.any():
            rewards.revise(self.replay.episodes.typical().rewards, latest)

    def _rescale(self) -> None:
        """Sets all scales anew, by all that was met."""
        unit, statistics = self._met.unit, cast(Statistics, self.statistics)
        self.say(f"rewards are now {unit:,.3g} in the mean, so all scales are set anew")
        groups = statistics.reward_groups
        if statistics.reward_support is None:
            groups = groups_of(self._playing.rewards)
        self.statistics = statistics._replace(reward_unit=unit, reward_groups=groups)
        cast(Components, self.components).rescale(self.statistics)
        if groups != statistics.reward_groups:
            self._learn_by(self.learner.updates)
        self.optimizer.rescale(self.config.policy.least_range or unit)
        if self.optimizer.takes_bonus:
            self._curiosity.unit = unit
        self._standardise()

    def _new_nats(self, since: int) -> Metrics:
        """The loss of new episodes, before anything is learned from them: what the model is worth
        outside its data, for which no episode has to be set aside."""
        components, episodes = cast(Components, self.components), self.replay.episodes
        new = episodes.select(np.arange(since, min(since + SCORED, len(episodes))))
        if not new.steps:
            return {}
        found = scoring.log_prob(components.model, components.actions, new)
        self._figures["new_nats"] = -float(found.sum()) / new.steps
        return {"new_nats": self._figures["new_nats"]}

    def _read(self, stage: Stage) -> Metrics:
        torch.manual_seed(self.config.seed)
        return self._playing.read()

    def _encode(self, stage: Stage) -> Metrics:
        if self._encoding is None:
            self._encoding = self._new_encoding(stage)
        return self._encoding.update()

    @property
    def _window(self) -> tuple[int, int, float, int]:
        """The arguments of `Replay.sample`."""
        config = self.config.learning
        rows = config.batch_size * config.window
        return config.window, rows, config.from_start, config.burn_in

    def _choose(self, stage: Stage) -> Metrics:
        if self._choice is None:
            self._choice = self._new_choice()
        return self._choice.update(self.done)

    def _new_choice(self) -> WeightDecayChoice:
        components, updates = cast(Components, self.components), self._plan.choice_updates
        learners = [
            learner_for(
                copy.deepcopy(components.model),
                replace(self.config.learning, weight_decay=decay, compile=False),
                self.config.optimizer,
                [(0, updates)],
            )
            for decay in CANDIDATES
        ]
        return WeightDecayChoice(
            learners,
            self.replay.episodes.typical(),
            components.actions,
            updates,
            self._window,
            int(self._seeds(3).generate_state(1)[0]),
        )

    def _end_choice(self) -> None:
        losses = cast(WeightDecayChoice, self._choice).losses()
        self._choice = None
        best = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
        self._weight_decay = CANDIDATES[best]
        compared = " and ".join(
            f"{loss:.2f} (with {decay:g})" for loss, decay in zip(losses, CANDIDATES, strict=True)
        )
        self.say(
            f"weight decay {self._weight_decay:g}: rows that were not learned from cost "
            f"{compared} nats each"
        )

    def _learn(self, stage: Stage) -> Metrics:
        if self.done == 0 and self.config.learning.weight_decay is None:
            share = min(1.0, self._plan.collections[0] / max(1, self.real_steps))
            self.learner.trainer.decay_by(share * self._weight_decay)
        batch = self.replay.sample(*self._window)
        metrics = self.learner.update(batch)
        latest = self._figures.get("nats", metrics["nats"]) if self.done else metrics["nats"]
        self._figures["nats"] = latest + LATEST * (metrics["nats"] - latest)
        if self._seeks_novelty or self._is_pessimistic:
            components = cast(Components, self.components)
            self._curiosity.update(components.believer(components.acting), batch)
        return metrics

    def _improve(self, stage: Stage) -> Metrics:
        if self._is_searching and not self._seeks_novelty:
            return {}  # there is nothing to become better at
        if self.done == 0:
            self.optimizer.begin()
            if self._sought_novelty and not self._seeks_novelty:
                self.say("there is something to seek now: returns are learned anew")
                cast(Components, self.components).new_critic()
                cast(GradientOptimizer, self.optimizer).begin_anew()
            self._sought_novelty = self._seeks_novelty
        bonus: Bonus | None = None
        components = cast(Components, self.components)
        discount, share = components.rollouts.discount, components.rollouts.least_entropy
        if self._seeks_novelty:
            bonus = self._curiosity.bonus
            discount = min(discount, NEAR_DISCOUNT)  # what is new is gone once it is known
            share = min(share, DECIDED)
        elif self._is_pessimistic:
            bonus = self._curiosity.penalty
        if isinstance(self.optimizer, GradientOptimizer):
            self.optimizer.objective.discount = discount
            self.optimizer.least_entropy = components.actions.low_entropy(share)
        metrics = self.optimizer.update(bonus)
        self._figures |= {key: metrics[key] for key in ("entropy",) if key in metrics}
        return metrics

    def _keep_the_better(self, stage: Stage) -> None:
        """Lets the policy of before this round act on unless the new one is better in the dream as
        it is now: whatever changes may have found a fault of the model. If it is clearly worse,
        learning goes on from the older one, too."""
        policy = self.config.policy
        is_ours = isinstance(self.optimizer, GradientOptimizer) and not policy.plans_ahead
        if stage.round == 0 or self._is_searching or not is_ours:
            return
        before, now, error = ranks.of_first(self._compared)
        ranks.agree_on_noise()
        if now - before > error:
            return
        optimizer = cast(GradientOptimizer, self.optimizer)
        is_worse = before - now > CLEARLY * error
        optimizer.keep_before(is_undone=is_worse)
        self.say(
            f"the policy of before this round acts on: in the dream its return is {before:,.2f}, "
            f"and {now:,.2f} with the new one{', which is undone' if is_worse else ''}"
        )

    def _compared(self) -> tuple[float, float, float]:
        """The mean returns of the policy before this round and of the one now, in the same dreams,
        and the standard error of their difference."""
        optimizer, returns = cast(GradientOptimizer, self.optimizer), []
        for _ in range(2):
            optimizer.exchange()
            returns.append(self._dream_greedily(COMPARED, LONG)[0].returns)
        before, now = returns
        error = float((before - now).std(ddof=1)) / COMPARED**0.5
        return float(before.mean()), float(now.mean()), error

    @property
    def _is_searching(self) -> bool:
        """True while there is nothing for a policy to seek, and the policy is not to try."""
        return self._met.has_no_goal and self.config.collect.search != "policy"

    @property
    def _seeks_novelty(self) -> bool:
        """True while the policy is trained to find what the model does not know."""
        is_asked = self.config.collect.search == "novelty"
        return self._is_searching and is_asked and self.optimizer.takes_bonus

    @property
    def _is_pessimistic(self) -> bool:
        """True if what the model does not know costs reward in dreams."""
        return self.config.policy.pessimism > 0 and self.optimizer.takes_bonus

    def _evaluate(self, stage: Stage) -> Metrics:
        if stage.round == 0 and self.world.cut:
            self.say(f"evaluations play real episodes{self.world.cut}")
        real, dreamt, lengths, beyond = ranks.of_first(functools.partial(self._looked, stage))
        ranks.agree_on_noise()
        self._curve.append(float(np.mean(real)))
        self._errors.append(float(np.std(real) / len(real) ** 0.5))
        before = self._figures.get("dream_beyond", 0.0)
        if beyond > max(FAR, GROWN * before):
            self.say(
                f"dreams leave what was met: in {beyond:.0%} of their steps a number is out of "
                f"its range so far, {before:.0%} before"
            )
        self._figures["dream_beyond"] = beyond
        self._figures["real_return"] = self._curve[-1]
        self._figures["dream_return"] = float(np.mean(dreamt))
        self._figures["dream_length"] = float(np.mean(lengths))
        return {
            "real_steps": self.real_steps,
            "real_return_mean": self._curve[-1],
            "dream_return_mean": self._figures["dream_return"],
            "dream_beyond": beyond,
            "real_returns": real,
            "dream_returns": dreamt,
        }

    def _looked(self, stage: Stage) -> tuple[list[float], list[float], list[int], float]:
        """Returns of real episodes, returns and lengths of dreamt ones, and the share of their
        steps that show what was never met. Each round's are others: one set of games that happen
        to be hard would be so all along."""
        agent = Greedy(cast(Components, self.components).player)
        key = [evaluation_seeds(self.config.seed)[0], stage.round]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        real = self.world.watch(agent, self.curve_episodes, seed)
        dreamt, beyond = self._dream_greedily(len(real.returns))
        return real.returns.tolist(), dreamt.returns.tolist(), dreamt.lengths.tolist(), beyond

    def _dream_greedily(
        self, episodes: int, most: int | None = None
    ) -> tuple[EpisodeStats, float]:
        """Plays whole episodes in the dream, or `most` steps of them; the share of their steps
        that show what was never met."""
        components = cast(Components, self.components)
        limit = self.world.time_limit or int(self.store.lengths.max())
        dream = WatchedDream(components.own_dream(min(limit, most or limit)))
        with OwnNoise(evaluation_seeds(self.config.seed)[2])():
            found = play_episodes(dream, Greedy(components.agent), episodes)
        return found, dream.share

    def _seeds(self, place: int) -> np.random.SeedSequence:
        """Seeds of the replay (0), the image encoder (1), the collection (2), a choice (3)."""
        return np.random.SeedSequence(self.config.seed, spawn_key=(place,))

    def rest(self) -> None:
        self._playing.close()

    def _statistics(self) -> Statistics:
        rewards = self._playing.rewards
        unit = float(np.sqrt(np.mean(np.square(rewards)))) or 1.0
        support = atoms_of(rewards) if self.config.model.rewards != "density" else []
        heads: dict[str, Any] = {}
        if not is_encoded(self.world.observation_space, self.config.images):
            observations = self.store.typical().columns["observation"]
            heads = heads_of(self.world.observation_space, observations)
        return Statistics(support or None, unit, heads, [] if support else groups_of(rewards))

    def _meet(self, episodes: Episodes) -> None:
        """Lets the model know new data: its bounds, and the values that numbers take."""
        cast(Components, self.components).model.percepts.meet(_values(episodes))

    def _standardise(self) -> None:
        """Sets the scales of numbers and their bounds, by recorded data."""
        model = cast(Components, self.components).model
        model.percepts.standardise(_values(self.replay.episodes.typical()))
        for part in self.replay.episodes.portions():
            self._meet(part)

    def _build(self, statistics: Statistics) -> None:
        """Makes all learned components, with new weights."""
        torch.manual_seed(self.config.seed)
        self.statistics = statistics
        world = self.world
        self.components = Components(
            self.config,
            statistics,
            world.observation_space,
            world.action_space,
            self.device,
            self.say,
        )
        if line := explain(world.observation_space, self.config.images, self.components.reads):
            self.say(line)
        self.replay = Replay(self.components.actions, self._seeds(0))
        self._learn_by(0)
        self.optimizer = optimizer_for(self.components, self.replay, self._plan.rollouts)
        self._compile()
        if self.optimizer.takes_bonus:
            self._curiosity = Curiosity(
                self.components.ensemble, statistics.reward_unit, self.config.policy.pessimism
            )

    def _learn_by(self, updates: int) -> None:
        """Makes the learner of the model as it is now, after so many updates."""
        model = cast(Components, self.components).model
        self.learner = learner_for(
            model, self.config.learning, self.config.optimizer, self._plan.updates
        )
        self.learner.trainer.updates = updates

    def _compile(self) -> None:
        """Compiles the steps of dreams, if that is asked for or pays, or makes graphs of them."""
        policy, rollouts = self.config.policy, cast(Components, self.components).rollouts
        pays = any(rollouts.length * planned >= MANY_DREAMT for _, planned in self._plan.rollouts)
        as_graph = policy.engine == "onnxruntime" and rollouts.method != "pathwise"
        asked = policy.compile_dreams
        if as_graph or asked == "always" or (asked == "auto" and pays):
            self.optimizer.compile(self.say, as_graph)

    def _learned_from(self) -> EpisodeStore:
        """The store of all recorded episodes, as the model reads it."""
        encoder = cast(Components, self.components).image_encoder
        return self.store if encoder is None else encoded_store(self.store, encoder)

    def _new_encoding(self, stage: Stage) -> ImageEncoderTraining:
        seed = int(self._seeds(1).generate_state(stage.round + 1)[stage.round])
        encoder = cast(WorldModel, cast(Components, self.components).image_encoder)
        return ImageEncoderTraining(encoder, self.store, self.config.images, seed)

    def tensors(self) -> dict[str, Any]:
        state = self._playing.tensors()
        if self.components is None:
            return state
        state |= {"learner": self.learner.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict()}
        if self.optimizer.takes_bonus:
            state |= {"curiosity": self._curiosity.trainer.state_dict()}
        if self._choice is not None:
            state |= {"choice": self._choice.tensors()}
        return state if self._encoding is None else state | {"encoding": self._encoding.tensors()}

    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "stages": [list(stage) for stage in self.stages],
            **self._plan.values(),
            **self._playing.values(),
            "curve": self._curve,
            "errors": self._errors,
            "counted": self._counted,
            "sought_novelty": self._sought_novelty,
            "figures": self._figures,
            "weight_decay": self._weight_decay,
        }
        if self.components is None:
            return values
        statistics = cast(Statistics, self.statistics)
        values |= {"statistics": statistics._asdict(), "replay": self.replay.state_dict()}
        if self._choice is not None:
            values["choice"] = self._choice.replay.state_dict()
        if self._encoding is not None:
            values["images"] = self._encoding.batches.state_dict()
        return values

    def build(self, values: Mapping[str, Any]) -> None:
        self.stages = [Stage(*stage) for stage in values["stages"]]
        self._plan.load(values)
        self._playing.load_counts(values)
        self._curve, self._counted = list(values["curve"]), values["counted"]
        self._errors = list(values.get("errors", [0.0] * len(self._curve)))  # of earlier runs
        self._sought_novelty = values["sought_novelty"]
        self._figures = dict(values["figures"])
        self._weight_decay = values["weight_decay"]
        if "statistics" in values:
            self._build(Statistics(**values["statistics"]))

    def load(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._playing.load(tensors, values)
        if self.components is None:
            return
        self.replay.episodes = self._learned_from()
        self.replay.load_state_dict(values["replay"])
        if "encoding" in tensors:
            self._encoding = self._new_encoding(self.stages[self.stage])
            self._encoding.load(tensors["encoding"], values["images"])
        if "choice" in tensors:
            self._choice = self._new_choice()
            self._choice.load(tensors["choice"], values["choice"])
        self.learner.load_state_dict(tensors["learner"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.optimizer.takes_bonus:
            self._curiosity.trainer.load_state_dict(tensors["curiosity"])


def _values(episodes: Episodes) -> dict[str, Any]:
    """The observations of episodes, which of them are first ones, and the rewards and ends of all
    other rows."""
    first = np.zeros(episodes.rows, dtype=bool)
    first[episodes.starts - episodes.starts[0]] = True
    return {
        "observation": episodes.columns["observation"],
        "first": first,
        "reward": episodes.rewards,
        "terminated": np.delete(episodes.columns["terminated"], episodes.starts),
    }


def check_fit(
    config: AgentConfig, observation_space: spaces.Space, action_space: spaces.Space
) -> None:
    """Makes everything once and throws it away, so that options which do not fit each other or the
    spaces are refused before anything is played.

    Raises ValueError or TypeError.
    """
    learning = replace(config.learning, compile=False)
    if config.policy.engine == "onnxruntime":
        check_onnxruntime()
    if config.policy.algorithm is not None:
        from worldmodel.agents import sb3

        sb3.check(config.policy.algorithm, action_space, algorithm_options(config.policy))
    with OwnNoise(config.seed)():
        statistics = Statistics([0.0], 1.0)
        components = Components(config, statistics, observation_space, action_space)
        learner_for(components.model, learning, config.optimizer, [(0, 1)])
        optimizer_for(components, Replay(components.actions, config.seed), [(0, 1)])
