from . import distributions as distributions, nested as nested, ranks as ranks
from .agent import (
    Agent as Agent,
    AgentWrapper as AgentWrapper,
    BeliefAgent as BeliefAgent,
    Greedy as Greedy,
    Memoryless as Memoryless,
    Metronome as Metronome,
    NullAgent as NullAgent,
    Script as Script,
)
from .autoencoder import (
    as_recordings as as_recordings,
    autoencoder_for as autoencoder_for,
    decode_images as decode_images,
    encode_images as encode_images,
    image_space as image_space,
    prune_inactive as prune_inactive,
)
from .codecs import (
    ENCODERS as ENCODERS,
    HEADS as HEADS,
    ActionCodec as ActionCodec,
    ConvolutionalEncoder as ConvolutionalEncoder,
    DistModule as DistModule,
    Encoder as Encoder,
    ImageHead as ImageHead,
    ObservationDecoder as ObservationDecoder,
    PerceptDecoder as PerceptDecoder,
    PerceptEncoder as PerceptEncoder,
    action_codec as action_codec,
    decoder_for as decoder_for,
    encoder_for as encoder_for,
    head_for as head_for,
    register_encoder as register_encoder,
    register_head as register_head,
)
from .cores import (
    CORES as CORES,
    RNN as RNN,
    RSSM as RSSM,
    SRNN as SRNN,
    VAE as VAE,
    VRNN as VRNN,
    Independent as Independent,
    Inference as Inference,
    SequenceCore as SequenceCore,
    core_options as core_options,
    make_core as make_core,
    register_core as register_core,
)
from .disk_store import DiskStore as DiskStore
from .environment import Dream as Dream, DreamState as DreamState, Environment as Environment
from .episodes import (
    Episodes as Episodes,
    EpisodeSource as EpisodeSource,
    EpisodeStore as EpisodeStore,
    Joined as Joined,
    MemoryStore as MemoryStore,
)
from .evaluation import EpisodeStats as EpisodeStats, play_episodes as play_episodes
from .experiments import load as load
from .gen_core import GenCore as GenCore, GenState as GenState
from .job import Job as Job, Stage as Stage, Watcher as Watcher
from .learner import Learner as Learner
from .likelihoods import (
    BOUNDS as BOUNDS,
    kl_closed_form as kl_closed_form,
    kl_monte_carlo as kl_monte_carlo,
    log_prob as log_prob,
    lower_bound as lower_bound,
    particle_filter as particle_filter,
    register_bound as register_bound,
)
from .model import (
    ModelState as ModelState,
    WorldModel as WorldModel,
    context_size as context_size,
    model_for as model_for,
)
from .nets import mlp as mlp
from .objectives import (
    ELBO as ELBO,
    FIVO as FIVO,
    IWAE as IWAE,
    OBJECTIVES as OBJECTIVES,
    Objective as Objective,
    make_objective as make_objective,
    objective_from as objective_from,
    register_objective as register_objective,
)
from .recurrences import register_recurrence as register_recurrence
from .registry import (
    Registry as Registry,
    UnknownNameError as UnknownNameError,
    check_options as check_options,
    options_taken as options_taken,
)
from .replay import Drawn as Drawn, Priorities as Priorities, Replay as Replay
from .schedules import (
    Schedule as Schedule,
    constant as constant,
    cosine as cosine,
    cyclical as cyclical,
    half_life as half_life,
    linear as linear,
    warmed_up as warmed_up,
)
from .sequence_model.config import (
    SequenceConfig as SequenceConfig,
    SequenceLearningConfig as SequenceLearningConfig,
    SequenceModelConfig as SequenceModelConfig,
    SeriesConfig as SeriesConfig,
)
from .sequence_model.forecasting import Forecast as Forecast
from .sequence_model.modality import Modality as Modality
from .sequence_model.model import FitProgress as FitProgress, SequenceModel as SequenceModel
from .sequence_model.series import Series as Series
from .sequence_model.training import SequenceTraining as SequenceTraining
from .sequences import Row as Row, Sequences as Sequences
from .sequential_batches import SequentialBatches as SequentialBatches
from .trainer import Trainer as Trainer

__version__: str
from .codecs import PerceptModule as PerceptModule, Prediction as Prediction
from .percepts import Percepts as Percepts
