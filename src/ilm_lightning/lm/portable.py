"""Weights of an item-language model outside memory: checkpoints and portable folders, never the frozen LLM."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ilm_lightning.adapters import build_adapter
from ilm_lightning.lm.backbone import (
    Backbone,
    LMReference,
    Tuning,
    apply_tuning,
    load_backbone,
    merge_updates,
    parse_tuning,
    read_updates,
)
from ilm_lightning.permissions import follow_umask

if TYPE_CHECKING:
    from ilm_lightning.lm.model import ItemLanguageModel

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
LORA_FOLDER = "lora"
LM_FOLDER = "lm"
UPDATES_FOLDER = "lm_updates"
_LM_PREFIX = "lm."


def trainable_state_dict(model: "ItemLanguageModel") -> dict[str, Tensor]:
    """Return what a checkpoint keeps.

    Returns:
        All outside the language model, trained or not, and the trained weights of the language model.
    """
    kept: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not name.startswith(_LM_PREFIX):
            kept[name] = parameter.detach()
    for name, buffer in model.state_dict().items():
        if name not in kept and not name.startswith(_LM_PREFIX):
            kept[name] = buffer.detach()
    return kept


def load_trainable_state_dict(model: "ItemLanguageModel", state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load what ``trainable_state_dict`` returned.

    Args:
        model: the model to change.
        state: the weights.
        strict: False lets weights of the language model be absent (a frozen run continues with all weights trained).

    Raises:
        ValueError: if names or shapes differ; it names both sides, and nothing is changed.
    """
    own = trainable_state_dict(model)
    missing = [name for name in own if name not in state and (strict or not name.startswith(_LM_PREFIX))]
    surplus = [name for name in state if name not in own]
    if missing or surplus:
        raise ValueError(
            f"the weights do not belong to this model (adapter {model.adapter.config}, tuning {model.tuning}): "
            f"missing {_some(missing)}; not known here {_some(surplus)}"
        )
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"the weights do not belong to this model (adapter {model.adapter.config}): {name} has shape "
                f"{list(value.shape)} there and {list(own[name].shape)} here"
            )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return shown or "nothing"


def save_pretrained(
    model: "ItemLanguageModel", folder: str | Path, tokenizer: str | None = None, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a portable folder.

    It holds ``config.json``, ``model.safetensors`` (adapter, start, gain, scale, item head) and, where the language
    model was trained, ``lora/`` in peft's format or ``lm/`` in transformers'. A frozen language model is only referred
    to; updates that were made part of it before tuning are copied to ``lm_updates/``.

    Args:
        model: what to write.
        folder: where; made if needed.
        tokenizer: name of the tokenizer; by default the language model's.
        extra: plain values to keep, for instance the prompt template.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = {
        "format_version": FORMAT_VERSION,
        "adapter": model.adapter.config,
        "num_queries": model.num_queries,
        "item_head": model.item_head is not None,
        "soft_start": model.soft_start is not None,
        "tuning": model.tuning.value,
        "compute_dtype": str(model.compute_dtype).removeprefix("torch."),
        "lm": model.reference.to_dict(),
        "lm_updates": model.updates is not None and model.tuning is not Tuning.FULL,
        "tokenizer": tokenizer or model.reference.name,
        "extra": dict(extra or {}),
    }
    state = {name: value for name, value in trainable_state_dict(model).items() if not name.startswith(_LM_PREFIX)}
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, target / WEIGHTS_FILE)
    lm: Any = model.lm
    if model.tuning is Tuning.LORA:
        # peft would otherwise look the base model up by name
        lm.save_pretrained(target / LORA_FOLDER, save_embedding_layers=False)
        _sort_targets(target / LORA_FOLDER / "adapter_config.json")
    elif model.tuning is Tuning.FULL:
        lm.save_pretrained(target / LM_FOLDER)
    if model.updates is not None and model.tuning is not Tuning.FULL:
        shutil.copytree(model.updates, target / UPDATES_FOLDER, dirs_exist_ok=True)
    follow_umask(target)
    # last, so that a folder with a config is a complete one
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _sort_targets(path: Path) -> None:
    """Write peft's set of layer names in a fixed order, so that equal models have equal files."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a portable folder's config.

    Raises:
        ValueError: if the folder holds none, or one of another format.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} is no exported model: it holds no {CONFIG_FILE}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}; export the model again") from error
    if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
        version = config.get("format_version") if isinstance(config, dict) else None
        raise ValueError(f"{path} has format version {version}, this program reads {FORMAT_VERSION}")
    if lacking := {"adapter", "tuning", "compute_dtype", "lm"} - set(config):
        raise ValueError(f"{path} lacks {', '.join(sorted(lacking))}; export the model again")
    return config


def from_pretrained(
    folder: str | Path, lm: str | Path | Backbone | None = None, dtype: str | None = None
) -> "ItemLanguageModel":
    """Read a portable folder.

    Args:
        folder: what ``save_pretrained`` wrote.
        lm: the untrained language model: a folder, a hub name, or a backbone with frozen weights; None takes the name
            in the config. Not read if the folder holds a fully trained one.
        dtype: what the language model computes in; None takes what it was trained with.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: if the folder is damaged or incomplete, or the language model is another one.
    """
    from ilm_lightning.lm.model import ItemLanguageModel

    source = Path(folder)
    config = read_config(source)
    adapter = build_adapter(config["adapter"])
    backbone = _backbone(source, config, lm, dtype or config["compute_dtype"])
    model = ItemLanguageModel(adapter, backbone, bool(config.get("item_head", False)))
    if config.get("soft_start"):
        model.soft_start = torch.nn.Parameter(torch.zeros(model.num_queries, adapter.output_dim))
    try:
        state = load_file(source / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{source / WEIGHTS_FILE} is missing or damaged ({error}); export the model again") from error
    # weights of the language model came with the backbone
    load_trainable_state_dict(model, state, strict=False)
    return model.eval()


def _backbone(folder: Path, config: Mapping[str, Any], lm: str | Path | Backbone | None, dtype: str) -> Backbone:
    tuning = parse_tuning(config["tuning"])
    expected = LMReference(**config["lm"])
    if tuning is Tuning.FULL:
        if not (folder / LM_FOLDER).is_dir():
            raise ValueError(f"{folder} says that its language model was trained, but holds no {LM_FOLDER} folder")
        trained = load_backbone(folder / LM_FOLDER, Tuning.FULL, dtype)
        return Backbone(trained.lm, tuning, trained.compute_dtype, expected)
    if isinstance(lm, Backbone):
        base = lm
        if base.tuning is not Tuning.FROZEN:
            raise ValueError(f"pass the untrained language model, not one set up for tuning {base.tuning}")
    else:
        source = lm or _by_name(expected.name)
        base = load_backbone(source, Tuning.FROZEN, dtype, revision=expected.revision if not lm else None)
    _check_same_lm(expected, base.reference)
    apply_tuning(base.lm, Tuning.FROZEN)
    updates = None
    if config.get("lm_updates"):
        updates = folder / UPDATES_FOLDER
        base = replace(base, lm=merge_updates(base.lm, updates))
    if tuning is Tuning.FROZEN:
        return Backbone(base.lm, tuning, base.compute_dtype, expected, updates)
    return Backbone(_with_lora(folder, base), tuning, base.compute_dtype, expected, updates)


def _by_name(name: str) -> str | Path:
    """The folder of a language model that is an asset or a hub's; any other name is a folder."""
    from ilm_lightning.assets import REGISTRY, resolve
    from ilm_lightning.assets.hub import hub_name

    return resolve(name).path if name in REGISTRY or hub_name(name) else name


def _check_same_lm(expected: LMReference, found: LMReference) -> None:
    if expected.sha256 and found.sha256 and expected.sha256 != found.sha256:
        raise ValueError(
            f"the model was trained on {expected.name} (weights {expected.sha256[:12]}), but the language model given "
            f"is {found.name} (weights {found.sha256[:12]}); pass the one it was trained on"
        )


def _with_lora(folder: Path, base: Backbone) -> torch.nn.Module:
    if not (folder / LORA_FOLDER / "adapter_config.json").is_file():
        raise ValueError(f"{folder} says that it was trained with LoRA, but holds no {LORA_FOLDER} folder")
    wrapped: torch.nn.Module = read_updates(base.lm, folder / LORA_FOLDER, trained=True)
    return wrapped.eval()
