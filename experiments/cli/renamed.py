"""Options that have other names by now: whoever types an old one is told the new one.

By command, such as {"train control": {"--memory": "--hidden-size"}}.
"""

RENAMED: dict[str, dict[str, str]] = {}


def new_name(command: str, argument: str) -> str | None:
    """What an option is called now; None if it is still called so, or is none."""
    return RENAMED.get(command, {}).get(argument.partition("=")[0])
