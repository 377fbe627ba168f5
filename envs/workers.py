"""Environments in processes of their own, which are replaced when they die."""

import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import (
    CloudpickleWrapper,
    batch_space,
    concatenate,
    create_empty_array,
    iterate,
)

from worldmodel.envs.checked import BrokenEnvironmentError, Checked, shut, words_of

DEATHS = 3  # of a worker without a step in between; then something is wrong that stays wrong
FRUITLESS = 20  # of a worker without the end of an episode in between: all was dropped
PATIENCE = 60.0  # seconds

Maker = Callable[[], gymnasium.Env]


class Outcome(NamedTuple):
    """The result of a reset or step of one environment."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Order(NamedTuple):
    """A command to a worker: actions of its copies, or the seeds to reset them with."""

    actions: list[Any] | None
    seeds: Sequence[int | None] = ()
    options: dict[str, Any] | None = None


class Failure(NamedTuple):
    """The failure of a worker: its reason and its traceback."""

    reason: str
    trace: str


class WorkerVectorEnv(VectorEnv):
    """Copies of an environment, shared by worker processes; the same rows as `SyncVectorEnv`
    gives for the same seeds.

    A worker that is killed, raises an error or does not answer is replaced. Its copies begin new
    episodes at this very step, with reward 0 and `info["restarted"]` (bool [n]) set; a caller that
    stored the rows of their unfinished episodes has to drop them, as `collect` does.
    """

    def __init__(
        self,
        makers: Sequence[Maker],
        workers: int,
        patience: float | None = None,
        report: Callable[[str], None] = warnings.warn,
        context: str | None = None,
    ):
        """makers: one a copy.

        patience: seconds that a worker may take to step, or to make and reset, all its copies;
            None: `PATIENCE`.
        report: called with a sentence for each death.
        context: how `multiprocessing` starts processes: "fork", "spawn", "forkserver"; None: its
            default here.
        """
        example = makers[0]()
        self.num_envs = len(makers)
        self.metadata = {**example.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = example.observation_space
        self.single_action_space = example.action_space
        shut(example)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.patience = patience or PATIENCE
        self.report = report
        shares = np.array_split(np.arange(self.num_envs), workers)
        self._workers = [
            Worker(number, share.tolist(), [makers[copy] for copy in share], context)
            for number, share in enumerate(shares)
        ]
        self._seeds: list[int | None] = [None] * self.num_envs
        self._lengths = np.zeros(self.num_envs, np.int64)  # steps of the latest episodes
        self._ended = np.ones(self.num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins new episodes; copy i is seeded by `seed + i`, or by `seed[i]`."""
        if options is not None and "reset_mask" in options:
            raise ValueError("workers reset all of their copies; they know no reset_mask")
        seeds = self._seeds_of_copies(seed)
        if seed is not None:
            self._seeds = seeds
        self._ended[:] = True
        orders = {w: Order(None, [seeds[c] for c in w.copies], options) for w in self._workers}
        outcomes, _ = self._exchange(orders)
        self._lengths[:], self._ended[:] = 0, False
        return self._observations(outcomes), self._infos(outcomes)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one step of every copy; those whose episodes had ended begin anew."""
        each = list(iterate(self.action_space, actions))
        orders = {w: Order([each[c] for c in w.copies]) for w in self._workers}
        begun = self._ended.copy()
        outcomes, restarted = self._exchange(orders)
        info = self._infos(outcomes)
        if restarted.any():
            info["restarted"] = restarted
        terminated = np.array([outcome.terminated for outcome in outcomes], np.bool_)
        truncated = np.array([outcome.truncated for outcome in outcomes], np.bool_)
        self._lengths = np.where(begun | restarted, 0, self._lengths + 1)
        self._ended = terminated | truncated
        rewards = np.array([outcome.reward for outcome in outcomes], np.float64)
        return self._observations(outcomes), rewards, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the worker processes."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.stop()

    def _exchange(self, orders: dict["Worker", Order]) -> tuple[list[Outcome], np.ndarray]:
        """The outcomes of the copies [n], and a mask of those [n] with a new worker."""
        answers: dict[int, Outcome] = {}
        restarted = np.zeros(self.num_envs, np.bool_)
        while orders:
            died = []
            for worker, answer in self._answers(orders):
                if isinstance(answer, Failure):
                    died.append(worker)
                    self._bury(worker, answer)
                    restarted[worker.copies] = True
                else:
                    answers |= dict(zip(worker.copies, answer, strict=True))
                    if orders[worker].actions is not None:
                        worker.deaths = 0
                    if any(outcome.terminated or outcome.truncated for outcome in answer):
                        worker.fruitless = 0
            orders = {
                worker: Order(None, self._fresh_seeds(worker), orders[worker].options)
                for worker in died
            }
        return [answers[copy] for copy in range(self.num_envs)], restarted

    def _answers(
        self, orders: dict["Worker", Order]
    ) -> Iterator[tuple["Worker", list[Outcome] | Failure]]:
        """Sends the orders, and yields the answers of workers as they come."""
        pending = {worker.send(order): worker for worker, order in orders.items()}
        deadline = time.monotonic() + self.patience
        while pending:
            ready = wait(list(pending), max(0.0, deadline - time.monotonic()))
            for pipe in ready:
                worker = pending.pop(pipe)  # type: ignore[call-overload]
                yield worker, worker.receive()
            if not ready:
                break
        for worker in pending.values():
            yield worker, Failure(f"no answer for {self.patience:g} seconds", "")

    def _bury(self, worker: "Worker", failure: Failure) -> None:
        """Reports the death of a worker and what is lost; the next order begins a new process."""
        worker.stop(after=0.0)
        worker.deaths += 1
        worker.fruitless += 1
        worker.restarts += 1
        if worker.deaths == DEATHS or worker.fruitless == FRUITLESS:
            number, what = (
                (DEATHS, "a step") if worker.deaths == DEATHS else (FRUITLESS, "a whole episode")
            )
            error = BrokenEnvironmentError(
                f"worker {worker.number} died {number} times without {what} in between, now of "
                f"this: {failure.reason}; restarting does not fix it"
            )
            error.add_note(failure.trace)
            raise error
        lost = [str(self._lengths[copy]) for copy in worker.copies if not self._ended[copy]]
        self._ended[worker.copies] = True
        self.report(f"worker {worker.number} died ({failure.reason}); restarted, {_dropped(lost)}")

    def _fresh_seeds(self, worker: "Worker") -> list[int | None]:
        """Seeds of a new worker's copies, which follow from the old ones."""

        def fresh(seed: int | None) -> int | None:
            if seed is None:
                return None
            return int(np.random.SeedSequence((seed, worker.restarts)).generate_state(1)[0])

        return [fresh(self._seeds[copy]) for copy in worker.copies]

    def _seeds_of_copies(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + copy for copy in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"a list of seeds has one for each of the {self.num_envs} copies, got {len(seed)}"
            )
        return list(seed)

    def _observations(self, outcomes: list[Outcome]) -> Any:
        space = self.single_observation_space
        values = [outcome.observation for outcome in outcomes]
        out: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, values, out)

    def _infos(self, outcomes: list[Outcome]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for copy, outcome in enumerate(outcomes):
            infos = self._add_info(infos, outcome.info, copy)
        return infos


class Worker:
    """A handle of a process that steps some of the copies; it starts when first needed."""

    def __init__(
        self, number: int, copies: list[int], makers: Sequence[Maker], context: str | None
    ):
        self.number = number
        self.copies = copies
        self.makers = CloudpickleWrapper(makers)  # type: ignore[arg-type]
        self.context: Any = multiprocessing.get_context(context)
        self.deaths = 0  # since the last step
        self.fruitless = 0  # the same since the last end of an episode
        self.restarts = 0
        self._process: Any = None
        self._pipe: Any = None

    def send(self, order: Order) -> Connection:
        """Sends an order; returns the pipe that the answer will come from."""
        if self._process is None:
            self._start()
        with suppress(OSError):  # of one that died meanwhile, `receive` raises
            self._pipe.send(order)
        return self._pipe

    def receive(self) -> list[Outcome] | Failure:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(1.0)
            return Failure(f"exit code {self._process.exitcode}", "")

    def dismiss(self) -> None:
        """Requests that it close its environments and end."""
        if self._process is not None:
            with suppress(OSError):
                self._pipe.send(None)

    def stop(self, after: float = 5.0) -> None:
        """Ends it, by force `after` seconds."""
        if self._process is not None:
            self._process.join(after)
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _start(self) -> None:
        self._pipe, theirs = self.context.Pipe()
        self._process = self.context.Process(
            target=serve,
            args=(theirs, self._pipe, self.makers),
            name=f"environments-{self.number}",
            daemon=True,
        )
        self._process.start()
        theirs.close()


def _dropped(lengths: list[str]) -> str:
    """A clause on the unfinished episodes, of the given numbers of steps, that are dropped."""
    if not lengths:
        return "nothing is dropped"
    if len(lengths) == 1:
        return f"its unfinished episode of {lengths[0]} steps is dropped"
    return f"its unfinished episodes of {' and '.join(lengths)} steps are dropped"


def serve(pipe: Connection, others: Connection, makers: CloudpickleWrapper) -> None:
    """The loop of a worker. It ends with its parent, whose Ctrl-C it ignores."""
    others.close()
    torch.set_num_threads(1)  # a forked process that used the threads of its parent would hang
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    copies: list[Copy] = []
    with suppress(EOFError, OSError):  # the parent is gone
        while (order := pipe.recv()) is not None:
            answer = _obeyed(order, copies, makers.fn)  # type: ignore[arg-type]
            pipe.send(answer)
            if isinstance(answer, Failure):
                return
    for copy in copies:
        copy.env.close()


def _obeyed(
    order: Order, copies: list["Copy"], makers: Sequence[Maker]
) -> list[Outcome] | Failure:
    """The outcomes of an order in all copies, which are made at the first one."""
    try:
        if not copies:
            copies += [Copy(make()) for make in makers]
        if order.actions is not None:
            return [copy.step(action) for copy, action in zip(copies, order.actions, strict=True)]
        seeds = zip(copies, order.seeds, strict=True)
        return [copy.reset(seed, order.options) for copy, seed in seeds]
    except Exception as error:
        return Failure(_reason(error), traceback.format_exc())


def _reason(error: Exception) -> str:
    """An environment's own error and where it is from, or how it broke its interface."""
    if isinstance(error, BrokenEnvironmentError):
        if error.__cause__ is None:
            return str(error)
        error = cast(Exception, error.__cause__)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{words_of(error)}, in {where.filename}:{where.lineno}"


class Copy:
    """An environment that restarts itself at the step after an end."""

    def __init__(self, env: gymnasium.Env):
        self.env = Checked(env)
        self._ended = False

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Outcome:
        observation, info = self.env.reset(seed=seed, options=options)
        self._ended = False
        return Outcome(observation, 0.0, False, False, info)

    def step(self, action: Any) -> Outcome:
        if self._ended:
            return self.reset()
        outcome = Outcome(*self.env.step(action))  # type: ignore[arg-type]
        self._ended = outcome.terminated or outcome.truncated
        return outcome
