"""What each step of phase 2 trains on where the task is recommendation: examples apart, or sharing their histories."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.artifacts import Artifact, file_hash
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config import TuningConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.item_head import shared_rank_batch
from ilm_lightning.ranks import rank, world_size
from ilm_lightning.tasks.openp5 import TrainingIndex

if TYPE_CHECKING:
    from ilm_lightning.engine.stages.recommend import Bench
    from ilm_lightning.engine.stages.tune import Inputs
    from ilm_lightning.lm import ItemLanguageModel
    from ilm_lightning.lm.pieces import PieceTable

log = logging.getLogger("ilm_lightning")
PIECES_CODE = 1
LARGEST_ERROR = 0.1
"""Of hidden states read together, relative to their largest entry; bfloat16 stays below 0.02."""


@dataclass(frozen=True)
class TrainingBatches:
    """Training batches by step, and what they cost.

    Attributes:
        batch: step number -> collated batch.
        examples: examples of one pass.
        steps_per_epoch: batches of one pass.
        mean_tokens: tokens of an example.
        tokens_read: tokens that the language model reads for an example.
        largest: tokens that it reads for the largest batch of the first stretch.
    """

    batch: Callable[[int], Any]
    examples: int
    steps_per_epoch: int
    mean_tokens: float
    tokens_read: float
    largest: int

    def report(self, steps: int) -> dict[str, Any]:
        """Numbers for the artefact of a training of so many steps."""
        found = {
            "train_examples": self.examples,
            "epochs": steps / self.steps_per_epoch,
            "mean_tokens": self.mean_tokens,
        }
        return found if self.tokens_read == self.mean_tokens else found | {"mean_tokens_read": self.tokens_read}


def tuning_that_matters(tuning: TuningConfig) -> dict[str, Any]:
    """The settings of phase 2 without those of histories that are off."""
    off = {"expanded": {"history", "history_block"}, "shared": {"history_block"}}.get(tuning.history, set())
    kept = {key: value for key, value in asdict(tuning).items() if key not in off}
    del kept["lm_first_seed"]  # the model that it makes is an input of its own
    # names of an earlier version: artefacts that it made stay valid
    first = {"text_first_steps": kept.pop("lm_first_steps"), "text_first_lr": kept.pop("lm_first_lr")}
    return {**kept, **first, "blind_first_steps": 0, "blind_first_lr": 1e-3}


def prompt_table(context: Context, inputs: "Inputs", bench: "Bench") -> "PieceTable":
    """Token ids of all that prompts are put together from: made once, then read from disk where it lies."""
    from ilm_lightning.lm.pieces import PieceTable
    from ilm_lightning.lm.recommendation import prompt_pieces

    config, tokenizer = context.config, bench.tokenizer
    assert config.tasks.prompts is not None
    settings = {"code": PIECES_CODE, "num_queries": tokenizer.num_queries, "frame": list(tokenizer.frame)}
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "prompts": file_hash(Path(config.tasks.prompts)),
        "lm": context.asset(config.lm.name).sha256,
    }

    def build(folder: Path) -> dict[str, Any]:
        every = [*bench.prompts.training, *(prompt for own in bench.prompts.unseen.values() for prompt in own)]
        table = prompt_pieces(tokenizer, bench.sequences.name, bench.indexing, every)
        table.save(folder)
        return {"pieces": len(table), "tokens": len(table.ids)}

    return PieceTable.open(context.store.get("pieces", settings, artifacts, build).path)


def training_batches(context: Context, bench: "Bench", model: "ItemLanguageModel") -> TrainingBatches:
    """Set the order of training up, as ``tuning.history`` wants it.

    Raises:
        ConfigError: histories are to be shared, and the language model cannot.
    """
    from ilm_lightning.lm.assembly import Assembler, StepBatches
    from ilm_lightning.lm.recommendation import Renderer

    tuning, seed = context.config.tuning, context.config.seed
    index = TrainingIndex(bench.sequences, bench.trained)
    if tuning.history == "expanded":
        assemble = Assembler(bench.renderer, index, bench.collator)
        batches, mean = StepBatches(index, assemble.lengths, tuning.batch_size, seed), assemble.mean_length()

        def apart(step: int) -> Any:
            if bench.head == "item":
                return bench.batch(batches(step), shared=True)
            numbers = batches.numbers(step)
            mine = numbers[rank() :: world_size()]
            # where there are fewer examples than processes, one is read and weighs nothing
            return assemble(mine) if len(mine) else assemble(numbers[:1]).weightless()

        return TrainingBatches(apart, len(index), batches.steps_per_epoch, mean, mean, batches.largest())
    from ilm_lightning.lm.histories import SharedBatches, families
    from ilm_lightning.lm.shared import SharedCollator, idle, own_part, reads_trees

    old = bench.renderer
    settings = replace(old.settings, block=tuning.history_block if tuning.history == "blocks" else 0)
    renderer = Renderer(old.tokenizer, old.sequences, old.indexing, settings, old.table)
    shared = SharedBatches(families(renderer, index), tuning.batch_size, seed)
    collate = SharedCollator(bench.collator, packed=reads_trees(model))

    def together(step: int) -> Any:
        if bench.head == "item":
            return shared_rank_batch(bench, renderer, collate, shared(step))
        groups = [[renderer(example) for example in group] for group in shared(step)]
        return collate(own_part(groups) or idle(groups))

    lengths = renderer.lengths(index)
    check_sharing(context, model, int(lengths.max()))
    mean = float(lengths.mean())
    log.info("%-9s histories shared: %.0f tokens an example in the place of %.0f", "tune", shared.mean_tokens, mean)
    return TrainingBatches(together, len(index), shared.steps_per_epoch, mean, shared.mean_tokens, shared.largest())


def check_sharing(context: Context, model: "ItemLanguageModel", longest: int) -> None:
    """Refuse a language model that would read examples otherwise when they share a history.

    Args:
        context: the run.
        model: whose attention it is.
        longest: tokens of the longest example.

    Raises:
        ConfigError: says why, and what to set instead.
    """
    from ilm_lightning.lm.backbone import causal_lm
    from ilm_lightning.lm.shared import sharing_error

    named = f"tuning.history={context.config.tuning.history}: {context.config.lm.name}"
    lm = causal_lm(model.lm).config
    if getattr(lm, "is_encoder_decoder", False):
        raise ConfigError(
            f"{named} has an encoder, whose words see the whole prompt: two prompts share nothing; "
            "set tuning.history=expanded"
        )
    window = getattr(lm, "sliding_window", None) if getattr(lm, "use_sliding_window", True) else None
    if window is not None and longest > window:
        raise ConfigError(
            f"{named} looks back {window} tokens in some layers, and examples have up to {longest}; "
            "lower tasks.history or set tuning.history=expanded"
        )
    error = sharing_error(model)
    if error > LARGEST_ERROR:
        raise ConfigError(
            f"{named} reads examples otherwise when they share a history (hidden states differ by {error:.0%}): it "
            "follows no mask or no positions from outside; set tuning.history=expanded"
        )
