"""The purpose of a game in words: what it is about, how it ends, and what a good return is.

An environment of one's own says so by methods, each of which it may leave out:

    get_purpose() -> str                    what a player is to do, in a sentence
    get_end_meanings() -> dict[str, str]    words for "terminated" and for "truncated"
    get_best_return(info) -> float | None   the best possible return of the game whose `reset` gave
                                            this info
"""

import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium

PURPOSES: dict[str, str] = {
    "CartPole": "Keep the pole upright and the cart on its track: push the cart left or right.",
    "Pendulum": "Swing the pendulum up and keep it upright, with little torque.",
    "Acrobot": "Swing the free end up to the line, as fast as you can.",
    "MountainCar": "Reach the flag: rock back and forth, since the engine alone is too weak.",
    "MountainCarContinuous": "Reach the flag by rocking back and forth, with little force.",
    "LunarLander": "Land between the flags, slowly and upright, with little fuel.",
}
"""The purposes of games by the name of an environment's spec, where the documentation of the class
does not begin with it."""

ENDS = {"terminated": "the end", "truncated": "time is up"}
"""Words for an end by the rules of a game, and by its limit of steps."""

LONGEST = 160  # characters of a sentence from a class's documentation


class Purpose(NamedTuple):
    """The purpose of a game, its ends, and a good return."""

    words: str = ""  # "": unknown
    terminated: str = ENDS["terminated"]
    truncated: str = ENDS["truncated"]
    good: float | None = None  # a return that counts as good, on average

    @property
    def told(self) -> str:
        """The purpose and a good return in words, as far as they are known."""
        goal = "" if self.good is None else f"A return of {self.good:g} is good."
        return f"{self.words} {goal}".strip()

    def end(self, terminated: bool) -> str:
        """Words for the end of a game."""
        return self.terminated if terminated else self.truncated

    def outcome(
        self, terminated: bool, steps: int, total: float, best: float | None = None
    ) -> str:
        """The end of a game in words. total: its return; best: the best that was possible.

        >>> Purpose(terminated="solved").outcome(True, 5, -5.0, best=-4.0)
        'solved: 5 steps, return -5, best possible -4'
        >>> Purpose(good=475.0).outcome(False, 500, 500.0)
        'time is up: 500 steps, return 500, good is 475'
        """
        plural = "s" * (steps != 1)
        said = f"{self.end(terminated)}: {steps} step{plural}, return {total:.5g}"
        if best is not None:
            return f"{said}, best possible {best:.5g}"
        return said if self.good is None else f"{said}, good is {self.good:g}"


def purpose_of(env: gymnasium.Env) -> Purpose:
    """The purpose of an environment: by its methods; else what Gymnasium knows of it, the first
    sentence of its class's documentation and the `reward_threshold` of its spec.

    >>> purpose_of(gymnasium.make("Acrobot-v1")).told
    'Swing the free end up to the line, as fast as you can. A return of -100 is good.'
    """
    told = getattr(env.unwrapped, "get_purpose", None)
    name = "" if env.spec is None else env.spec.name
    words = str(told()) if told else PURPOSES.get(name) or first_sentence(type(env.unwrapped))
    meanings: Mapping[str, str] = getattr(env.unwrapped, "get_end_meanings", dict)()
    terminated, truncated = (str(meanings.get(key, usual)) for key, usual in ENDS.items())
    good = None if env.spec is None else env.spec.reward_threshold
    return Purpose(words, terminated, truncated, good)


def best_return(env: gymnasium.Env, info: Mapping[str, Any]) -> float | None:
    """The best possible return of a game of an environment; None where it does not know. info: of
    the game's `reset`."""
    best = getattr(env.unwrapped, "get_best_return", lambda info: None)(info)
    return None if best is None else float(best)


def first_sentence(of: type) -> str:
    """The first sentence of a class's own documentation, without markup; "" if it has none.

    >>> class Maze:
    ...     '''
    ...     ## Description
    ...
    ...     Find the [exit](https://maze.example) of
    ...     a `maze`. It is dark.
    ...     '''
    >>> first_sentence(Maze)
    'Find the exit of a maze.'
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(of.__doc__ or ""))
    prose = [" ".join(part.split()) for part in paragraphs]
    text = next((part for part in prose if part and part[0] not in "#=-|!<"), "")
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links
    sentence = re.split(r"(?<=[.!?])\s", re.sub(r"[*`]", "", text), maxsplit=1)[0]
    return textwrap.shorten(sentence, LONGEST, placeholder=" …")
