"""Keys and pointer as actions: from names of keys to values of any action space.

A face (a terminal, a window, a browser) names keys as here: "left", "right", "up",
"down", "space", "enter", digits and letters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

ARROWS = ("left", "right", "up", "down")
WORDS = (*ARROWS, "fire")  # words that compose names of actions ("upleftfire")
FIRST_WORD = {"space": "fire"}  # keys of words that are not names of keys


class Controls:
    """Holds the next action, and changes it key by key.

    Discrete: an action for each digit, and for the key in its name; several keys held together
    play the action that is named after all of them. Box: left and right set one number
    to the ends of its range, up and down the one after it, a digit chooses which (from 1), and a
    pointer sets both to where it is. MultiDiscrete: a digit chooses a number, left and right
    change it. MultiBinary: a digit turns a truth value. Space or enter play what is set.
    """

    def __init__(
        self,
        space: spaces.Space,
        names: Sequence[str] = (),
        keys: Mapping[str, int] | None = None,
    ):
        """names: of discrete actions, or of the numbers of others, in lower case; keys: of the
        user, to the indices of discrete actions, from 0 on."""
        self.space = space
        self.names = tuple(names)
        self.held: list[str] = []  # keys, in the order in which they were pressed
        self.chosen = 0  # index of the number that the arrows change
        if keys and not isinstance(space, spaces.Discrete):
            raise ValueError(f"keys are given to discrete actions, but actions are {space}")
        self.places = self._places(dict(keys or {}))
        self.action = self.idle = self._idle()

    def _places(self, keys: dict[str, int]) -> dict[str, int]:
        """Indices of discrete actions, by key."""
        if not isinstance(self.space, spaces.Discrete):
            return {}
        count = int(self.space.n)
        wrong = [f"{key}={place}" for key, place in keys.items() if not 0 <= place < count]
        if wrong:
            raise ValueError(f"actions are 0 to {count - 1}, got the keys {', '.join(wrong)}")
        places = {str(place): place for place in range(min(10, count))}
        if self.names:
            named = {name: place for place, name in enumerate(self.names)}
            places |= {key: named[key] for key in ARROWS if key in named}
            places |= {key: named[word] for key, word in FIRST_WORD.items() if word in named}
            places |= {"space": named["noop"]} if "space" not in places and "noop" in named else {}
        elif count <= 3:  # unnamed actions: probably ordered from left to right
            places |= {"left": 0, "right": count - 1}
        return places | keys

    def _idle(self) -> Any:
        """The action while no key is held."""
        if isinstance(self.space, spaces.Discrete):
            place = self.names.index("noop") if "noop" in self.names else 0
            return self.space.start + place
        if isinstance(self.space, spaces.Box):
            middle = (self.space.low.astype(float) + self.space.high) / 2
            nothing = np.clip(np.zeros_like(middle), self.space.low, self.space.high)
            return np.where(self.space.low <= 0, nothing, middle).astype(self.space.dtype)
        if isinstance(self.space, spaces.MultiDiscrete):
            return self.space.start.copy()
        return np.zeros(self.space.shape, self.space.dtype)

    @property
    def help(self) -> list[tuple[str, str]]:
        """Keys and their effects, for display."""
        if isinstance(self.space, spaces.Discrete):
            keys: dict[int, list[str]] = {}
            for key, place in self.places.items():
                keys.setdefault(place, []).append(key)
            return [(" ".join(reversed(of)), self.name_of(place)) for place, of in keys.items()]
        if isinstance(self.space, spaces.Box):
            more = [("1-9", "which number")] * (self.action.size > 2)
            second = [("up down", "the next one")] * (self.action.size > 1)
            return [("left right", "least, most"), *second, *more, ("space", "nothing")]
        if isinstance(self.space, spaces.MultiDiscrete):
            return [("1-9", "which"), ("left right", "less, more"), ("space", "play")]
        return [("1-9", "turn"), ("space", "play")]

    def name_of(self, place: int) -> str:
        """The name of a discrete action, by its index."""
        return self.names[place] if place < len(self.names) else f"action {place}"

    def describe(self, action: Any) -> str:
        """An action of the space, in words."""
        if isinstance(self.space, spaces.Discrete):
            return self.name_of(int(action) - int(self.space.start))
        values = [f"{value:.3g}" for value in np.asarray(action, float).ravel()]
        if len(self.names) != len(values):
            return " ".join(values)
        return " ".join(f"{name} {value}" for name, value in zip(self.names, values, strict=True))

    def knows(self, key: str) -> bool:
        """True if a key belongs to actions."""
        if isinstance(self.space, spaces.Discrete):
            return key in self.places
        return key in (*ARROWS, "space", "enter") or (key.isdigit() and key != "0")

    def press(self, key: str) -> bool:
        """Handles a key that it `knows`; True if the key chose an action."""
        if key not in self.held:
            self.held.append(key)
        if isinstance(self.space, spaces.Discrete):
            self.action = self.space.start + self._place(key)
            return True
        if key in ("space", "enter"):
            if isinstance(self.space, spaces.Box):
                self.action = self.idle
            return True
        if key.isdigit():
            place = int(key) - 1
            if place < self.action.size:
                self.chosen = place
                if isinstance(self.space, spaces.MultiBinary):
                    self._set(place, 1 - self.action.ravel()[place])
            return False
        if isinstance(self.space, spaces.Box):
            self._set_end(key)
            return True
        if isinstance(self.space, spaces.MultiDiscrete) and key in ("left", "right"):
            start = self.space.start.ravel()[self.chosen]
            count = self.space.nvec.ravel()[self.chosen]
            now = self.action.ravel()[self.chosen] - start + (1 if key == "right" else -1)
            self._set(self.chosen, start + now % count)
        return False

    def release(self, key: str | None = None) -> None:
        """Releases a key; None: all keys, as on a terminal, which does not report releases.

        If no key is held, the next action is the no-op; without one, or if an action is set number
        by number, it stays as it is.
        """
        self.held = [] if key is None else [other for other in self.held if other != key]
        if isinstance(self.space, spaces.Discrete):
            if self.held:
                self.action = self.space.start + self._place(self.held[-1])
            elif "noop" in self.names:
                self.action = self.idle
        elif isinstance(self.space, spaces.Box) and not self.held:
            self.action = self.idle

    def point(self, x: float, y: float) -> bool:
        """Moves the pointer to (x, y), from -1 to 1, y upwards; True if it chose an action."""
        if not isinstance(self.space, spaces.Box):
            return False
        for place, share in ((self.chosen, x), (self.chosen + 1, y)):
            if place < self.action.size:
                low, high = self.space.low.ravel()[place], self.space.high.ravel()[place]
                share = min(1.0, max(-1.0, share))
                self._set(place, low + (high - low) * (share + 1) / 2)
        return True

    def _place(self, key: str) -> int:
        """Index of the discrete action of a key together with the held ones."""
        word_of = {**{arrow: arrow for arrow in ARROWS}, **FIRST_WORD}
        words = {word_of[other] for other in self.held if other in word_of}
        for place, name in enumerate(self.names):
            if len(words) > 1 and _words(name) == words:
                return place
        return self.places[key]

    def _set(self, place: int, value: Any) -> None:
        changed = np.array(self.action)
        changed.ravel()[place] = value
        self.action = changed

    def _set_end(self, key: str) -> None:
        place = self.chosen + (key in ("up", "down"))
        if place < self.action.size:
            end = self.space.high if key in ("right", "up") else self.space.low  # type: ignore
            self._set(place, end.ravel()[place])


def _words(name: str) -> set[str]:
    """Words in the name of an Atari action.

    >>> sorted(_words("upleftfire")), _words("noop")
    (['fire', 'left', 'up'], set())
    """
    found, rest = set(), name
    for word in WORDS:
        if word in rest:
            found.add(word)
            rest = rest.replace(word, "")
    return found if not rest else set()
