"""Published figures of polyphonic music, for comparison with our own.

The papers publish log likelihoods; these are losses, minus log likelihoods: lower is better.
"""

from typing import NamedTuple

FILES = {  # of Boulanger-Lewandowski et al. 2012 (https://arxiv.org/abs/1206.6392)
    "JSB": "JSB_Chorales.npz",
    "Nottingham": "Nottingham.npz",
    "MuseData": "MuseData.npz",
    "Piano-midi": "Piano_midi.npz",
}


class Published(NamedTuple):
    """A published figure: its loss by set, nats a frame."""

    name: str
    scored: str
    nats: dict[str, float]
    checked: bool  # computed, or read in the publication; else quoted from memory


def _published(name: str, scored: str, *nats: float | None, checked: bool = False) -> Published:
    by_set = zip(FILES, nats, strict=False)
    return Published(name, scored, {key: x for key, x in by_set if x is not None}, checked)


BEST_OF_THREE = "best of three, K = 128"  # ELBO, IWAE, FIVO
PUBLISHED = (
    _published("marginal Bernoulli", "exact", 11.06, 10.25, 11.51, 11.05, checked=True),
    _published(
        "logistic regression, last frame",
        "exact",
        9.03,
        4.58,
        8.13,
        8.02,
        checked=True,
    ),
    _published("RNN (2012)", "exact", 8.71, 4.46, 8.13, 8.37),
    _published("VRNN by ELBO (FIVO paper)", BEST_OF_THREE, 8.63, 3.02, 7.18, 7.85),
    _published("VRNN by IWAE, N = 16 (FIVO paper)", BEST_OF_THREE, 7.41, 2.85, 7.13, 7.79),
    _published("VRNN by FIVO, N = 16 (FIVO paper)", BEST_OF_THREE, 6.72, 2.58, 5.89, 7.43),
    _published("VRNN by ELBO (VSMC-PRC)", "bound", 8.69, 3.87, 7.48, 7.99, checked=True),
    _published("VRNN by IWAE, N = 8 (VSMC-PRC)", "bound", 8.32, 3.87, 7.41, 8.04, checked=True),
    _published("VRNN by FIVO, N = 8 (VSMC-PRC)", "bound", 7.40, 2.99, 6.67, 7.80, checked=True),
    _published("DMM (Pyro)", "ELBO", 6.87, checked=True),
    _published("DMM with 2 IAF (Pyro)", "ELBO", 6.80, checked=True),
    _published("DMM-Aug (2017)", "importance sampling", 6.29, 2.68, 6.36, 7.59),
    _published("STORN (2014)", "bound", 6.91, 2.85, 6.16, 7.13),
    _published("RNN-NADE (2012)", "exact", 5.19, 2.31, 5.60, 7.05),
    _published("hierarchical RNN (2019)", "exact", None, 2.03, 5.16),
)
