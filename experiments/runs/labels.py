"""Labels of what one can do and see in a game, the same in every face and on exported pages."""

COMMANDS = {
    "agent": "let the agent play",
    "run": "run / pause",
    "single": "one step",
    "restart": "new game",
    "fork": "imagine alone (fork)",
    "back": "back to the fork",
    "sync": "re-sync the dream",
    "random": "act at random",
    "reveal": "reveal the truth",
    "record": "record / stop",
    "faster": "faster",
    "slower": "slower",
    "hotter": "wilder dream",
    "colder": "tamer dream",
}
"""Labels of commands, by name."""

PILOTS = {"human": "you play", "agent": "the agent plays", "random": "random actions"}
"""Words for those who act."""

HAPPENED = "probability of what happened"
"""Label of the dream's probability of the real row."""

GO_ON = f"any action, or {COMMANDS['restart']}, goes on"
"""Words on how a game that has ended goes on."""
