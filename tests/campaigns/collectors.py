"""Collectors on two nodes of one core each, whose processes, nodes and drivers are killed.

A run with one collector has to end bit for bit as one without; with more, each of its episodes has
to be what its environment shows for its seed and its actions, and none may come twice.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from crews import check_run
from runs import assert_same_weights, outcome

from campaigns.processes import Ended, Process, command, ended
from campaigns.tally import Tally, problem_of
from worldmodel.agents import AgentConfig
from worldmodel.experiments.rl.config import (
    CollectorsConfig,
    EnvironmentConfig,
    EvaluationConfig,
    RLConfig,
    quick,
)
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.options import with_options
from worldmodel.run_folder import RunFolder

CASES = 20
NUMBERS = (2, 1, 4)  # of collectors
VICTIMS = ("collector", "node", "driver")
LONGEST = 20.0  # seconds after which something is killed, at most
HANGS = 900.0  # seconds, on a machine that does other work besides
COLLECTOR = b"ray::Player"  # the name of its process
OWN = ("seeds", "versions", "seconds")  # metrics that runs without collectors do not have

# A cluster in a process of its own, as a fork of one that has threads could wait for ever. Each
# line that it is given removes a node and adds another one.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print("ADDRESS", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(node, allow_graceful=False)
    node = cluster.add_node(num_cpus=1)
    print("DONE", flush=True)
cluster.shutdown()
"""


def run(cases: int, seed: int, place: Path, to: TextIO) -> Iterator[Tally]:
    """Runs that are attacked once each."""
    tally = Tally("collectors", cases, to)
    config = _config()
    expected = _left_alone(config, place / "expected")
    with _cluster() as (address, replace_node):
        for number in range(cases):
            chance = random.Random(seed + number)
            count, victim = NUMBERS[number // 3 % len(NUMBERS)], VICTIMS[number % len(VICTIMS)]
            collecting = CollectorsConfig(count, ray=address)
            path = place / "attacked"
            shutil.rmtree(path, ignore_errors=True)
            said = _attacked(
                replace(config, collecting=collecting), path, victim, chance, replace_node
            )
            said = said or _wrong(RunFolder.open(path), expected if count == 1 else None)
            case = f"{number}: {victim} of {count} collectors"
            tally.fault(case, said) if said else tally.right(victim)
    yield tally


def _config() -> RLConfig:
    config = quick(
        RLConfig(EnvironmentConfig("CartPole-v1", num_envs=2), agent=AgentConfig(seed=3))
    )
    longer = {"collect_steps": 150, "update_ratio": 0.1, "rollout_ratio": 0.1}
    return replace(
        config,
        agent=with_options(config.agent, longer),
        steps=950,
        curve_episodes=0,
        checkpoint_seconds=1e-6,
        evaluation=EvaluationConfig(episodes=2, held_out=2, bound_particles=2),
    )


@contextmanager
def _cluster():
    """A cluster of two nodes: its address, and a function that replaces one of them."""
    held = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def line_of(word: str) -> str:
        for line in held.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise RuntimeError("the cluster has ended")

    def replace_node() -> None:
        held.stdin.write("\n")
        held.stdin.flush()
        line_of("DONE")

    try:
        yield line_of("ADDRESS"), replace_node
    finally:
        held.stdin.close()
        held.wait()


def _left_alone(config: RLConfig, path: Path) -> RunFolder:
    end = ended(command(*arguments_of(config, path)), HANGS)
    assert end.code == 0, end
    return RunFolder.open(path)


def _attacked(
    config: RLConfig, path: Path, victim: str, chance: random.Random, replace_node
) -> str:
    """Trains a run, in which something is killed once; what is wrong with how it ended."""
    with command(*arguments_of(config, path)) as driver:
        _wait_for_collectors(driver, config.collecting.collectors)
        time.sleep(chance.uniform(0, LONGEST))
        if victim == "node":
            replace_node()
        elif victim == "driver":
            driver.send(signal.SIGKILL)
        elif there := _collectors():
            os.kill(chance.choice(there), signal.SIGKILL)
        end = driver.wait(HANGS)
    if victim == "driver" and end.code == -signal.SIGKILL:
        end = ended(command("resume", path), HANGS)
    return _said(end)


def _said(end: Ended) -> str:
    return "" if end.code == 0 else problem_of(end) or f"refused: {end.sentence}"


def _collectors() -> list[int]:
    """The numbers of the processes of collectors on this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if file.read_bytes().startswith(COLLECTOR):
                found.append(int(file.parent.name))
    return found


def _wait_for_collectors(driver: Process, number: int) -> None:
    """Waits until all collectors of a run are there, or it has ended."""
    end = time.monotonic() + HANGS
    while len(_collectors()) < number and time.monotonic() < end:
        if driver.ends_within(0.5):
            return


def _wrong(folder: RunFolder, expected: RunFolder | None) -> str:
    """What is wrong with a run that has ended; expected: what it has to be like, if any."""
    try:
        check_run(folder)
        if expected is not None:
            (metrics, weights), (others, other_weights) = outcome(folder), outcome(expected)
            kept = [
                [{k: v for k, v in line.items() if k not in OWN} for line in lines]
                for lines in (metrics[:-1], others[:-1])
            ]
            assert kept[0] == kept[1], "metrics differ"
            assert_same_weights(weights, other_weights)
    except AssertionError as error:
        return f"wrong: {error}"
    return ""
