from . import distributions as distributions
from . import nested as nested
from .agent import (
    Agent as Agent,
)
from .agent import (
    Believer as Believer,
)
from .agent import (
    Greedy as Greedy,
)
from .agent import (
    Memoryless as Memoryless,
)
from .agent import (
    Metronome as Metronome,
)
from .agent import (
    Onlooker as Onlooker,
)
from .autoencoder import (
    as_recordings as as_recordings,
)
from .autoencoder import (
    autoencoder_for as autoencoder_for,
)
from .autoencoder import (
    decode_images as decode_images,
)
from .autoencoder import (
    encode_images as encode_images,
)
from .autoencoder import (
    image_space as image_space,
)
from .autoencoder import (
    silence as silence,
)
from .codecs import (
    HEADS as HEADS,
)
from .codecs import (
    ActionCodec as ActionCodec,
)
from .codecs import (
    ConvolutionalEncoder as ConvolutionalEncoder,
)
from .codecs import (
    DistModule as DistModule,
)
from .codecs import (
    Encoder as Encoder,
)
from .codecs import (
    ImageHead as ImageHead,
)
from .codecs import (
    ObservationDecoder as ObservationDecoder,
)
from .codecs import (
    PerceptDecoder as PerceptDecoder,
)
from .codecs import (
    PerceptEncoder as PerceptEncoder,
)
from .codecs import (
    action_codec as action_codec,
)
from .codecs import (
    decoder_for as decoder_for,
)
from .codecs import (
    encoder_for as encoder_for,
)
from .codecs import (
    head_for as head_for,
)
from .cores import (
    CORES as CORES,
)
from .cores import (
    RNN as RNN,
)
from .cores import (
    RSSM as RSSM,
)
from .cores import (
    SRNN as SRNN,
)
from .cores import (
    VAE as VAE,
)
from .cores import (
    VRNN as VRNN,
)
from .cores import (
    Independent as Independent,
)
from .cores import (
    Inference as Inference,
)
from .cores import (
    SequenceCore as SequenceCore,
)
from .disk_store import DiskStore as DiskStore
from .environment import Dream as Dream
from .environment import DreamState as DreamState
from .environment import Environment as Environment
from .episodes import (
    Episodes as Episodes,
)
from .episodes import (
    EpisodeSource as EpisodeSource,
)
from .episodes import (
    EpisodeStore as EpisodeStore,
)
from .episodes import (
    MemoryStore as MemoryStore,
)
from .gen_core import GenCore as GenCore
from .gen_core import GenState as GenState
from .likelihoods import (
    BOUNDS as BOUNDS,
)
from .likelihoods import (
    kl_closed_form as kl_closed_form,
)
from .likelihoods import (
    kl_monte_carlo as kl_monte_carlo,
)
from .likelihoods import (
    log_prob as log_prob,
)
from .likelihoods import (
    lower_bound as lower_bound,
)
from .likelihoods import (
    particle_filter as particle_filter,
)
from .model import (
    ModelState as ModelState,
)
from .model import (
    WorldModel as WorldModel,
)
from .model import (
    context_size as context_size,
)
from .model import (
    model_for as model_for,
)
from .nets import mlp as mlp
from .objectives import ELBO as ELBO
from .objectives import FIVO as FIVO
from .objectives import IWAE as IWAE
from .objectives import Objective as Objective
from .passages import Passages as Passages
from .replay import Drawn as Drawn
from .replay import Priorities as Priorities
from .replay import Replay as Replay
from .schedules import (
    Schedule as Schedule,
)
from .schedules import (
    constant as constant,
)
from .schedules import (
    cosine as cosine,
)
from .schedules import (
    cyclical as cyclical,
)
from .schedules import (
    half_life as half_life,
)
from .schedules import (
    linear as linear,
)
from .sequences import Row as Row
from .sequences import Sequences as Sequences
from .trainer import Trainer as Trainer

__version__: str
