"""Typed configuration: one dataclass per config group. Cheap to import (no torch), so `--cfg job` answers at once.

Defaults that the paper does not give are ours; the YAML files under ``conf/`` say so where they set them.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from omegaconf import MISSING

from ilm_lightning.engine.config_baselines import SasrecConfig
from ilm_lightning.engine.config_logger import LoggerConfig
from ilm_lightning.engine.config_pretraining import PretrainingConfig
from ilm_lightning.engine.config_teacher import TeacherConfig
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.older import renamed


@dataclass
class DataConfig:
    """Where interactions and items come from."""

    name: str = MISSING
    """Shown beside every number."""
    kind: str = MISSING
    """Reader: movielens_small, ml_latest_small, ml_100k, ml_1m, ml_25m, openp5 or custom."""
    path: str | None = None
    """Folder of the raw files; null: the asset of this name is fetched."""
    film_facts: bool = True
    """Join people, countries, languages, length, critics and awards from the film-facts asset."""
    min_ratings: int = 5
    """Items with fewer ratings leave the catalogue (their behavioral vectors are noise)."""
    tags_per_item: int = 10
    """ml_latest_small, ml_25m: user tags that become text of an item, those of most users first; 0: none."""
    genome_tags_per_item: int = 10
    """ml_25m: genome tags that become text of an item, the most relevant first; 0: none."""
    genome_min_relevance: float = 0.5
    """ml_25m: less relevant genome tags never become text."""
    genome_in_text: bool = True
    """ml_25m; false: of genome tags, texts and vectors hold genres alone (for tasks that ask for the others)."""
    split_seed: int = 0
    """Seed of the split of movies into train, validation and test."""
    split: str = "strict"
    """strict (movies split once for all that sees text), paper (each task apart, phase 1 on all texts) or cold (as
    strict, held-out movies also without interactions). Numbers under the last two are marked."""
    interactions: str | None = None
    """custom only: CSV or parquet file of interactions."""
    items: str | None = None
    """custom: CSV or parquet file of items; openp5: folder or table of item texts, null for none."""
    columns: dict[str, str] = field(default_factory=dict)
    """custom only: our column name -> the file's column name."""
    indexing: str = "sequential"
    """openp5 only: random, sequential or collaborative; read from the folder, or written anew where it has none."""
    clusters: int = 20
    """openp5 only, collaborative indexing written anew: clusters of each split."""
    token_size: int = 500
    """openp5 only, collaborative indexing written anew: a cluster of at most this many items is not split."""
    list_separator: str = "|"
    """custom only: what parts several genres, tags or people in one cell of a CSV file."""


@dataclass
class AlsConfig:
    """Alternating least squares for implicit feedback: an exact solver of our own, implicit's, or Spark's."""

    factors: int = 64
    regularization: float = 1.0
    alpha: float = 5.0
    iterations: int = 15
    seed: int | None = None
    """Null: the run's. With a seed of its own, runs of several seeds share vectors and examples."""
    engine: str = "own"
    """own; implicit, whose gradient steps cost less where k is large; or spark, for those beyond one machine (``pip
    install 'ilm-lightning[spark]'``, Java)."""
    spark_master: str = ""
    """Address of a Spark cluster, as spark://HOST:7077; empty: Spark on this machine."""


@dataclass
class EncoderConfig:
    """Which vectors stand for an item."""

    name: str = MISSING
    """semantic, behavioral or combined."""
    text_model: str = "all-minilm-l6-v2"
    """Asset name, folder or hub name of a sentence-transformers model."""
    text_fields: list[str] = field(default_factory=lambda: ["title", "genres", "tags", "genome_tags"])
    """Texts encoded apart and averaged."""
    als: AlsConfig = field(default_factory=AlsConfig)


@dataclass
class AdapterConfig:
    """Item vectors -> soft tokens."""

    kind: str = MISSING
    """qformer, mlp, collm, perceiver, constant (free soft tokens shared by all items: the blind control), or custom
    (``_target_``)."""
    _target_: str | None = None
    """custom only: ``module.Class`` of your own adapter; see docs/your-own-adapter.md."""
    settings: dict[str, Any] = field(default_factory=dict)
    """custom only: arguments of that class."""
    init: str = "random"
    """qformer: pretrained (phase 1), bert or random; mlp: pretrained (vocabulary grounding) or random."""
    num_queries: int = 8
    """Soft tokens per item."""
    hidden_size: int = 384
    num_layers: int = 6
    num_heads: int = 12
    intermediate_size: int = 1536
    cross_attention_every: int = 2
    """Cross-attention in every k-th layer; 1 is the paper's wording, 2 is BLIP-2's code."""
    source_tokens: int = 1
    """S: key/value tokens each source vector is expanded to (1 = the paper)."""
    concatenate: bool = False
    """qformer: read both sources as one vector, side by side; the default is one key/value token (or S) for each."""
    dropout: float = 0.1
    bert: str = "all-minilm-l6-v2"
    """BERT-type checkpoint that initialises the Q-Former: asset name, folder or hub name."""


@dataclass
class LMConfig:
    """The language model."""

    name: str = MISSING
    """Asset name, local folder, or a causal language model of the hub as owner/model or owner/model@revision."""
    dtype: str = "auto"
    """Weights when frozen: float32, bfloat16, or auto (bfloat16 where the processor gains from it)."""


@dataclass
class TuningConfig:
    """Phase 2."""

    mode: str = MISSING
    """frozen, lora or full."""
    steps: int = 600
    batch_size: int = 8
    adapter_lr: float = 1e-3
    lm_lr: float = 1e-4
    warmup_steps: int = 30
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    adapter_first_share: float = 0.0
    """Share of ``steps`` that train the adapter alone with the LLM frozen, before the rest in ``mode`` (ELM)."""
    lm_first_steps: int = 0
    """Steps in which the LLM alone learns the tasks first: LoRA on prompts that know no item's vector (free soft tokens
    stand in its place; openp5: text ids alone, as in CoLLM), merged into it for every variant; 0: none (the paper)."""
    lm_first_lr: float = 1e-3
    lm_first_seed: int | None = None
    """Seed of these steps; null: the run's. With a seed of its own, variants of several seeds read the same LLM."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj", "o_proj", "down_proj"])
    """Names of the linear layers with updates; these four cost next to nothing, all-linear a third of a step more."""
    distillation_weight: float = 0.0
    """CD (ours): weight of the divergence from the untrained LLM that reads the items' texts; 0 = none."""
    distillation_tokens: int = 128
    """CD: longer item texts are cut to this many tokens."""
    residual_weighting: bool = False
    """RW (ours): target tokens count by the blind control's loss on them."""
    residual_clip: list[float] = field(default_factory=lambda: [0.1, 5.0])
    """RW: lowest and highest loss in nats that counts."""
    residual_steps: int | None = None
    """RW: steps of the blind model; null: as many as the variant, which makes it the blind control itself."""
    lr_trials: list[float] = field(default_factory=list)
    """Values of ``adapter_lr`` to try on validation before phase 2, ``lm_lr`` in proportion; empty: none."""
    trial_steps: int = 60
    """Steps of each trial, with a schedule of that length."""
    history: str = "expanded"
    """openp5: expanded (every example apart), shared (the same examples and losses, but what a user's examples begin
    with in common is read once) or blocks (ours: as shared, with windows that move on every ``history_block`` items,
    so that more positions share them; prompts of training then hold up to ``history_block - 1`` items less)."""
    history_block: int = 10
    """history=blocks: items by which a window moves on."""
    val_every: int = 200
    """Steps between validation losses; the best checkpoint is kept."""
    val_examples: int = 240
    checkpoint_every_s: float = 120.0


@dataclass
class TasksConfig:
    """Language tasks."""

    kind: str = MISSING
    """elm (the 24 tasks), figure1 (the paper's Figure 1 and user profiles) or openp5."""
    names: list[str] = field(default_factory=list)
    """The tasks, of elm, figure1 and own ones; empty: all of ``kind``. openp5: those of the prompt file."""
    file: str | None = None
    """YAML file of the user's own tasks and phrasings; see docs/your-own-tasks.md."""
    title_in_prompt: bool = False
    prompts: str | None = None
    """openp5: file of prompt templates."""
    history: int = 20
    """openp5: the most recent items in a prompt."""
    soft_tokens: bool = True
    """openp5: soft tokens after each item's id; false is OpenP5 itself, text ids alone."""
    user_vector: str = "none"
    """openp5: none; fold_in: soft tokens of the user as of the items before the target; full: ALS on all training
    items, which lets training targets leak into their own prompts; history: the items themselves before the target,
    for adapter=perceiver."""
    head: str = "text"
    """openp5: text (the item's id is written, as in the paper) or item (ours: all items are scored from one hidden
    state against their soft tokens)."""
    head_sample: int = 0
    """openp5, item head: items drawn for each step's softmax; 0: all, the exact softmax."""
    neighbour_space: str = "semantic"
    """Fixed space of nearest neighbours, whatever encoder the variant uses."""
    interpolation: str = "mean"
    """mean (one slot holds the mean vector of two items; ours, the paper is silent) or two_items (a slot each)."""
    user_history: int = 8
    """rating, next_item: items of the user's history in a prompt, the latest ones."""
    candidates: int = 20
    """next_item: titles to choose from, the true one among them."""
    users: int | None = 20000
    """rating, next_item, user_profile: most users; their judged ratings are left out of all vectors. null: all."""


@dataclass
class EvaluationConfig:
    """What is generated and scored on test movies."""

    movies: int = 40
    """Test movies, each once a task."""
    conditions: list[str] = field(default_factory=lambda: ["own", "shuffled", "hard_shuffled", "constant", "knn_copy"])
    """Any of own, shuffled, hard_shuffled, constant, knn_copy, blind, title, facts."""
    split: str = "test"
    """test, or validation while settings are chosen."""
    users: int = 0
    """openp5: size of the fixed random sample of users; 0: all."""
    prompt_sets: list[str] = field(default_factory=lambda: ["seen", "unseen"])
    """openp5: seen tests the first prompt of each task that was trained on, unseen the one that was not."""
    decoding: str = "trie"
    """openp5: trie (existing items only) or free (beams of any text, as in the paper)."""
    beams: int = 30
    """openp5: beams of each user; 10 is the paper's, more find the true top 10."""
    top_k: int = 10
    filter_seen: bool = False
    """openp5: leave out items that the user has met."""
    baselines: list[str] = field(default_factory=lambda: ["markov", "popularity", "item_knn", "als"])
    """openp5: recommenders without a language model that are ranked beside; sasrec too, where RePlay is installed."""
    knn_neighbours: int = 20
    """openp5: other items that item-kNN keeps of each item."""
    sasrec: SasrecConfig = field(default_factory=SasrecConfig)
    scorer: str = "all-minilm-l6-v2"
    """Asset name, folder or hub name of a sentence-transformers model."""
    second_scorer: str | None = None
    """A second opinion on SC: asset name or folder of a sentence encoder of another family, e.g. all-mpnet-base-v2;
    null: ROUGE-L and slot accuracy stand in its place. What one measure alone says is marked undecided."""
    max_new_tokens: int = 96
    batch_size: int = 96
    derangements: int = 5
    bootstrap: int = 5000
    losses: bool = True
    """Also score the targets themselves: loss, and bits against the blind control."""
    samples: int = 3
    """Movies whose texts are printed."""


@dataclass
class Config:
    """A whole run."""

    name: str = "ilm_qformer"
    """The row of the paper's tables."""
    seed: int = 0
    run: str | None = None
    """Name of the run folder under ``outputs``; null: name and configuration hash."""
    resume: str | None = None
    """An earlier run (name or folder): its stored configuration is taken and unfinished stages continue."""
    outputs: str = "outputs"
    artifacts: str = "artifacts"
    assets: dict[str, str] = field(default_factory=dict)
    """Asset name -> local path, taken before any download."""
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    lm: LMConfig = field(default_factory=LMConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


@cache
def _schema() -> Any:
    """The types and defaults, which take longer to read than a configuration takes to merge."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(Config)


def as_config(node: Any) -> Config:
    """Turn a composed Hydra node into a typed ``Config``.

    Args:
        node: the ``DictConfig`` given by Hydra or loaded from a run's ``config.yaml``.

    Returns:
        Plain dataclasses, all interpolations resolved.

    Raises:
        ValueError: a key is unknown, missing or of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        # as plain values: a key that "+" forced into a typed node would pass unseen
        values = OmegaConf.to_container(node)
        assert isinstance(values, dict)
        plain = OmegaConf.create(renamed({str(key): value for key, value in values.items()}))
        merged = OmegaConf.unsafe_merge(deepcopy(_schema()), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        if "ILM_DATA" in str(error):
            raise ValueError(
                f"{error.full_key or 'configuration'} is read from ILM_DATA: set ILM_DATA to the folder of the raw "
                "data, or give data.path=FOLDER, data.items=TEXTS (or null) and, with tasks=openp5, tasks.prompts=FILE"
            ) from error
        if isinstance(error, MissingMandatoryValue):
            raise ValueError(
                f"{error.full_key} has no value, and what was chosen needs one: add {error.full_key}=…"
            ) from error
        raise ValueError(f"configuration: {error}") from error
    assert isinstance(config, Config)
    return config
