"""The `repr` of a loaded run."""

from worldmodel import WorldModel


def run_name(experiment: str, model: WorldModel) -> str:
    """A description such as "<a run of text: RNN, 12,345 parameters>"."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    return f"<a run of {experiment}: {type(model.core).__name__}, {numbers:,} parameters>"
