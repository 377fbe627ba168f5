"""Learned world models: sequence cores, exact likelihoods, and dreams that are environments."""

from worldmodel import distributions, nested
from worldmodel.agent import Agent, Believer, Greedy, Memoryless, Metronome, Onlooker
from worldmodel.autoencoder import (
    as_recordings,
    autoencoder_for,
    decode_images,
    encode_images,
    image_space,
    silence,
)
from worldmodel.codecs import (
    HEADS,
    ActionCodec,
    ConvolutionalEncoder,
    DistModule,
    Encoder,
    ImageHead,
    ObservationDecoder,
    PerceptDecoder,
    PerceptEncoder,
    action_codec,
    decoder_for,
    encoder_for,
    head_for,
)
from worldmodel.cores import (
    CORES,
    RNN,
    RSSM,
    SRNN,
    VAE,
    VRNN,
    Independent,
    Inference,
    SequenceCore,
)
from worldmodel.disk_store import DiskStore
from worldmodel.environment import Dream, DreamState, Environment
from worldmodel.episodes import Episodes, EpisodeSource, EpisodeStore, MemoryStore
from worldmodel.gen_core import GenCore, GenState
from worldmodel.likelihoods import (
    BOUNDS,
    kl_closed_form,
    kl_monte_carlo,
    log_prob,
    lower_bound,
    particle_filter,
)
from worldmodel.model import ModelState, WorldModel, context_size, model_for
from worldmodel.nets import mlp
from worldmodel.objectives import ELBO, FIVO, IWAE, Objective
from worldmodel.passages import Passages
from worldmodel.replay import Drawn, Priorities, Replay
from worldmodel.schedules import Schedule, constant, cosine, cyclical, half_life, linear
from worldmodel.sequences import Row, Sequences
from worldmodel.trainer import Trainer

__all__ = [
    "BOUNDS",
    "CORES",
    "ELBO",
    "FIVO",
    "HEADS",
    "IWAE",
    "RNN",
    "RSSM",
    "SRNN",
    "VAE",
    "VRNN",
    "ActionCodec",
    "Agent",
    "Believer",
    "ConvolutionalEncoder",
    "DiskStore",
    "DistModule",
    "Drawn",
    "Dream",
    "DreamState",
    "Encoder",
    "Environment",
    "EpisodeSource",
    "EpisodeStore",
    "Episodes",
    "GenCore",
    "GenState",
    "Greedy",
    "ImageHead",
    "Independent",
    "Inference",
    "MemoryStore",
    "Memoryless",
    "Metronome",
    "ModelState",
    "Objective",
    "ObservationDecoder",
    "Onlooker",
    "Passages",
    "PerceptDecoder",
    "PerceptEncoder",
    "Priorities",
    "Replay",
    "Row",
    "Schedule",
    "SequenceCore",
    "Sequences",
    "Trainer",
    "WorldModel",
    "action_codec",
    "as_recordings",
    "autoencoder_for",
    "constant",
    "context_size",
    "cosine",
    "cyclical",
    "decode_images",
    "decoder_for",
    "distributions",
    "encode_images",
    "encoder_for",
    "half_life",
    "head_for",
    "image_space",
    "kl_closed_form",
    "kl_monte_carlo",
    "linear",
    "log_prob",
    "lower_bound",
    "mlp",
    "model_for",
    "nested",
    "particle_filter",
    "silence",
]
