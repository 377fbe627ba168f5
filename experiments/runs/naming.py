"""What a run that was loaded calls itself where it is printed."""

from worldmodel import WorldModel


def run_name(experiment: str, model: WorldModel) -> str:
    """Such as "<a run of text: RNN, 12,345 parameters>"."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    return f"<a run of {experiment}: {type(model.core).__name__}, {numbers:,} parameters>"
