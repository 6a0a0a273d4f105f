"""The language model behind the soft tokens: loading it, and what of it is trained."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from ilm_lightning.hardware import cpu_bf16
from ilm_lightning.lm.attention import choose_attention
from ilm_lightning.progress import without_bars

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ENCODER_DECODERS = ("t5", "mt5")
"""Families of encoder-decoders that are known here, by transformers' model types."""


class Tuning(StrEnum):
    """What of the language model phase 2 trains; the adapter is always trained."""

    FROZEN = "frozen"
    LORA = "lora"
    FULL = "full"


@dataclass(frozen=True)
class LoRASettings:
    """Low-rank updates of linear layers.

    Attributes:
        rank: rank of the updates.
        alpha: their scale times ``rank``.
        dropout: dropout before the updates.
        target_modules: names of the layers, or ``"all-linear"``.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"


@dataclass(frozen=True)
class LMReference:
    """Where a language model came from.

    Attributes:
        name: its name, for instance an asset or a hub name.
        sha256: digest of its weight files, or None where it was built in memory.
        revision: the hub's revision, or None.
    """

    name: str
    sha256: str | None = None
    revision: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return the reference as plain values."""
        return asdict(self)


@dataclass
class Backbone:
    """A language model set up for one tuning mode.

    Attributes:
        lm: the causal language model; wrapped by peft where the mode is LoRA.
        tuning: what of it is trained.
        compute_dtype: the dtype it computes in; with ``FULL`` its weights stay float32 and autocast does the rest.
        reference: where it came from.
        updates: folder of the LoRA updates that were made part of the model before tuning, if any.
    """

    lm: nn.Module
    tuning: Tuning = Tuning.FROZEN
    compute_dtype: torch.dtype = torch.float32
    reference: LMReference = field(default_factory=lambda: LMReference("unnamed"))
    updates: Path | None = None


def resolve_dtype(dtype: str) -> torch.dtype:
    """Turn a setting into a dtype.

    Args:
        dtype: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where GPU or CPU multiply it in hardware.

    Raises:
        ValueError: if the name is another one.
    """
    if dtype == "auto":
        gains = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else cpu_bf16()
        return torch.bfloat16 if gains else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use auto, {' or '.join(DTYPES)}")
    return DTYPES[dtype]


def weights_sha256(folder: Path) -> str | None:
    """Digest the weight files of a model folder.

    Returns:
        sha256 over the names and contents of ``*.safetensors`` in order of name; None where there is no such file.
    """
    files = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest() if files else None


def load_backbone(
    source: str | Path,
    tuning: Tuning | str = Tuning.FROZEN,
    dtype: str = "auto",
    lora: LoRASettings | None = None,
    attention: str = "auto",
    name: str | None = None,
    revision: str | None = None,
    updates: Path | None = None,
) -> Backbone:
    """Load a causal language model or an encoder-decoder and set it up for a tuning mode.

    Args:
        source: a model folder, or a hub name.
        tuning: what of it is trained.
        dtype: what it computes in: ``auto``, ``float32`` or ``bfloat16``.
        lora: settings of the LoRA mode.
        attention: transformers' ``attn_implementation``; ``auto`` takes the fastest, see ``choose_attention``.
        name: what to call it in reports and saved folders; by default the hub name or the folder's name.
        revision: the hub's revision.
        updates: a folder of LoRA updates in peft's format, which become part of the model before it is set up.

    Returns:
        The backbone, in evaluation mode.

    Raises:
        ValueError: if there is no such model, or a setting is unknown.
    """
    from transformers import AutoConfig

    compute = resolve_dtype(dtype)
    tuning = parse_tuning(tuning)
    folder = Path(source)
    if not folder.is_dir() and (folder.is_absolute() or str(source).startswith(".")):
        raise ValueError(f"there is no language model in {source}: the folder does not exist")
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ValueError(f"{source} holds no *.safetensors, and pickles are not read; save with safe_serialization")
    # weights that are trained stay in float32: bf16 cannot hold small updates
    storage = torch.float32 if tuning is Tuning.FULL else compute
    try:
        with _quiet_loading():
            config = AutoConfig.from_pretrained(str(source), revision=revision or "main")
            chosen = choose_attention(config) if attention == "auto" else attention
            lm = model_class(config).from_pretrained(
                str(source), config=config, dtype=storage, attn_implementation=chosen, revision=revision or "main"
            )
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot load the language model {str(source)!r}: {error}") from error
    digest = weights_sha256(folder) if folder.is_dir() else None
    reference = LMReference(name or (folder.name if folder.is_dir() else str(source)), digest, revision)
    if updates is not None:
        lm = merge_updates(lm, updates)
    return Backbone(apply_tuning(lm, tuning, lora), tuning, compute, reference, updates)


def model_class(config: "PretrainedConfig") -> Any:
    """Choose transformers' class for a language model: causal, or an encoder-decoder of T5's family.

    Raises:
        ValueError: an encoder-decoder of another family.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if not getattr(config, "is_encoder_decoder", False):
        return AutoModelForCausalLM
    if config.model_type not in ENCODER_DECODERS:
        raise ValueError(
            f"language models of type {config.model_type} are not known here: of encoder-decoders take one of "
            f"{', '.join(ENCODER_DECODERS)}"
        )
    return AutoModelForSeq2SeqLM


def merge_updates(lm: Any, updates: Path) -> Any:
    """Add LoRA updates into the weights of a language model, in place; exact up to the weights' rounding.

    Args:
        lm: a causal language model of transformers.
        updates: folder in peft's format.

    Returns:
        The same model, all of it frozen.

    Raises:
        ValueError: if the folder is missing or damaged.
    """
    return read_updates(lm, updates).merge_and_unload().requires_grad_(False)


def read_updates(lm: Any, updates: Path, trained: bool = False) -> Any:
    """Lay LoRA updates around a language model.

    Args:
        lm: a causal language model of transformers.
        updates: folder in peft's format, with safetensors: peft would also read a pickle.
        trained: whether they are to be trained on.

    Returns:
        peft's model.

    Raises:
        ValueError: if the folder is missing or damaged.
    """
    from peft import PeftModel

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (updates / name).is_file():
            raise ValueError(f"{updates} holds no LoRA updates ({name} is missing)")
    try:
        return PeftModel.from_pretrained(lm, str(updates), is_trainable=trained)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the LoRA updates in {updates} are damaged or another model's: {told}") from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No bar; and no advice where a T5's own vocabulary head is found, which transformers does not expect and keeps."""

    def unexpected(record: logging.LogRecord) -> bool:
        return "we will NOT tie them" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(unexpected)
    try:
        with without_bars():
            yield
    finally:
        logger.removeFilter(unexpected)


def parse_tuning(tuning: Tuning | str) -> Tuning:
    """Read a tuning mode.

    Raises:
        ValueError: if it is none of the three.

    >>> parse_tuning("lora")
    <Tuning.LORA: 'lora'>
    """
    try:
        return Tuning(tuning)
    except ValueError:
        raise ValueError(f"unknown tuning {tuning!r}: use {', '.join(Tuning)}") from None


def apply_tuning(lm: nn.Module, tuning: Tuning, lora: LoRASettings | None = None) -> nn.Module:
    """Set which weights of a language model are trained.

    Args:
        lm: a causal language model of transformers.
        tuning: the mode.
        lora: settings of the LoRA mode; by default rank 8, alpha 16, all linear layers.

    Returns:
        The model; with LoRA it is wrapped by peft, its updates are float32 and change nothing at first.
    """
    lm.eval()
    lm.requires_grad_(tuning is Tuning.FULL)
    if tuning is not Tuning.LORA:
        return lm
    from peft import LoraConfig, get_peft_model

    settings = lora or LoRASettings()
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="SEQ_2_SEQ_LM" if getattr(lm.config, "is_encoder_decoder", False) else "CAUSAL_LM",
    )
    wrapped: nn.Module = get_peft_model(lm, config)
    return wrapped.eval()


def set_training_mode(lm: nn.Module, tuning: Tuning, mode: bool) -> None:
    """Put the trained parts of a language model into training mode and keep the frozen ones in evaluation mode."""
    lm.train(mode and tuning is Tuning.FULL)
    if tuning is Tuning.LORA:
        for name, module in lm.named_modules():
            if "lora_" in name:
                module.train(mode)


def causal_lm(lm: nn.Module) -> "PreTrainedModel":
    """Return the transformers model, without peft's wrapper; LoRA layers inside it stay."""
    wrapped: Any = lm
    return wrapped.get_base_model() if is_peft(lm) else wrapped


def is_peft(lm: nn.Module) -> bool:
    """Tell whether peft wraps the model; peft is imported only where it may."""
    return hasattr(lm, "peft_config") and hasattr(lm, "get_base_model")
