"""Whether the models a run names can do what they are named for, seen from their descriptions before any training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.validate import ConfigError


def check_models(context: Context, bert: Sequence[str]) -> None:
    """Look into the folders of language model, sentence models and BERT.

    Args:
        context: the run, its assets resolved.
        bert: the checkpoint that initialises the Q-Former, if one does.

    Raises:
        ConfigError: names the key, what was found and what to set instead.
    """
    config = context.config
    if config.adapter.kind == "custom":
        _check_own_adapter(config)
    _check_causal(config.lm.name, context.asset(config.lm.name).path)
    if config.tuning.mode == "lora":
        _check_lora_targets(config, context.asset(config.lm.name).path)
    for key, name in (
        ("encoder.text_model", config.encoder.text_model),
        ("evaluation.scorer", config.evaluation.scorer),
    ):
        _check_sentences(key, name, context.asset(name).path)
    for name in bert:
        _check_bert(context.asset(name).path, config)


def _check_own_adapter(config: Config) -> None:
    """Build the user's own adapter without weights: a wrong name or argument is told before anything is computed."""
    import torch

    from ilm_lightning.adapters import build_adapter
    from ilm_lightning.embeddings.vectors import ENCODERS
    from ilm_lightning.engine.stages.pretrain import adapter_settings

    widths = dict.fromkeys(ENCODERS[config.encoder.name], 4)
    try:
        with torch.device("meta"):
            build_adapter(adapter_settings(config.adapter, widths, 8))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"adapter._target_={config.adapter._target_}: {error}") from error


def _description(key: str, name: str, folder: Path, wanted: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{key}={name}: {folder} holds no config.json; give {wanted}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{key}={name}: {path} is damaged ({error}); fetch the model again") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{key}={name}: {path} describes no model; give {wanted}")
    return found


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _check_causal(name: str, folder: Path) -> None:
    wanted = "the folder or hub name of a causal language model, or of an encoder-decoder of T5's family"
    found = _description("lm.name", name, folder, wanted)
    kinds = found.get("architectures") or []
    # as lm.backbone.ENCODER_DECODERS, which would load torch
    encoder_decoder = found.get("model_type") in ("t5", "mt5")
    endings = ("ForCausalLM", "LMHeadModel", *(["ForConditionalGeneration"] if encoder_decoder else []))
    if kinds and not any(kind.endswith(endings) for kind in kinds):
        raise ConfigError(f"lm.name={name} is a {kinds[0]}, which writes no text; give {wanted}")
    if not _has_weights(folder):
        raise ConfigError(f"lm.name={name}: {folder} holds no *.safetensors; save the model with safe_serialization")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise ConfigError(f"lm.name={name}: {folder} holds no tokenizer; save the model's tokenizer there too")


def _check_lora_targets(config: Config, folder: Path) -> None:
    """The layers that LoRA is to change must be there: told now, not after phase 1."""
    targets = config.tuning.lora_targets
    if targets == ["all-linear"]:
        return
    import torch
    from transformers import AutoConfig

    from ilm_lightning.lm.backbone import model_class

    described = AutoConfig.from_pretrained(str(folder))
    with torch.device("meta"):
        model = model_class(described).from_config(described)
    layers = {name.rpartition(".")[2] for name, module in model.named_modules() if not list(module.children())}
    missing = [target for target in targets if target not in layers]
    if missing:
        linear = sorted(
            {
                name.rpartition(".")[2]
                for name, module in model.named_modules()
                if type(module).__name__ in ("Linear", "Conv1D") and name != "lm_head"
            }
        )
        raise ConfigError(
            f"tuning.lora_targets: {config.lm.name} has no layer {missing[0]}; it has {', '.join(linear)} "
            "(or take tuning.lora_targets=[all-linear])"
        )


def _check_sentences(key: str, name: str, folder: Path) -> None:
    wanted = "the folder or hub name of a sentence-transformers model"
    if not (folder / "modules.json").is_file():
        kinds = _description(key, name, folder, wanted).get("architectures") or []
        if any(kind.endswith("ForCausalLM") for kind in kinds):
            raise ConfigError(f"{key}={name} is a {kinds[0]}, a language model; give {wanted}")


def _check_bert(folder: Path, config: Config) -> None:
    name = config.adapter.bert
    found = _description("adapter.bert", name, folder, "a BERT-type folder")
    if found.get("model_type", "bert") != "bert":
        raise ConfigError(
            f"adapter.bert={name} is a {found['model_type']} model; the Q-Former starts from BERT's layout"
        )
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(f"adapter.bert={name}: {folder} holds no model.safetensors")
    same = {"hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "num_heads": "num_attention_heads"}
    for ours, theirs in same.items():
        wanted, has = getattr(config.adapter, ours), found.get(theirs)
        if has is not None and wanted != has:
            raise ConfigError(f"adapter.{ours}={wanted}, but {name} has {has}: set adapter.{ours}={has}")
    if config.adapter.num_layers > found.get("num_hidden_layers", config.adapter.num_layers):
        most = found["num_hidden_layers"]
        raise ConfigError(f"adapter.num_layers={config.adapter.num_layers}, but {name} has {most}: set at most {most}")
