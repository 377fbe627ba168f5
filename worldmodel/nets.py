"""The feed-forward networks that everything is made of."""

from itertools import pairwise

from torch import nn


def mlp(sizes: list[int], norm: bool = False) -> nn.Sequential:
    """A multilayer perceptron, [*, sizes[0]] -> [*, sizes[-1]], SiLU between its layers.

    With `norm`, every hidden layer is normalised (layer normalisation: batch normalisation would
    couple the rows of a batch).
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp expects an input and an output size at least, got {sizes}")
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after)]
        layers += [nn.LayerNorm(after)] if norm else []
        layers += [nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def gru(input_size: int, hidden_size: int) -> nn.GRU:
    """A GRU with orthogonal recurrences, whose inputs are heard.

    PyTorch's default draws all weights within 1 / sqrt(hidden): inputs of which few are not zero
    (one-hot codes) then hardly move the state, and what must be remembered is learned ten times
    slower.
    """
    recurrence = nn.GRU(input_size, hidden_size)
    from_input, from_hidden, *biases = recurrence.parameters()
    nn.init.normal_(from_input, std=min(0.5, 2 * input_size**-0.5))
    for gate in from_hidden.data.split(hidden_size):
        nn.init.orthogonal_(gate)
    for bias in biases:
        nn.init.zeros_(bias)
    return recurrence
