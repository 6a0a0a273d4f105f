import json
from pathlib import Path

import pytest
import torch
from lm_tiny import make_model, tiny_llama
from safetensors.torch import load_file

from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference, Tuning, load_backbone
from ilm_lightning.lm.prompts import TokenisedExample

Examples = list[TokenisedExample]


def untrained(sha256: str | None = None) -> Backbone:
    return Backbone(tiny_llama(), reference=LMReference("tiny", sha256))


def perturb(model: ItemLanguageModel) -> ItemLanguageModel:
    """Move everything that is trained, as training would."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("tuning", Tuning)
def test_round_trip_gives_equal_logits(tuning: Tuning, tmp_path: Path, examples: Examples, collator: Collator) -> None:
    model = perturb(make_model(tuning))
    model.save_pretrained(tmp_path, extra={"template": "{prompt}\n"})
    again = ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())
    batch = collator(examples)
    assert torch.equal(again.target_logits(batch), model.target_logits(batch))
    assert again.tuning is tuning
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["extra"] == {"template": "{prompt}\n"}
    assert config["lm"]["name"] == config["tokenizer"] == "tiny"
    files = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    beside = {Tuning.FROZEN: set(), Tuning.LORA: {"lora"}, Tuning.FULL: {"lm"}}[tuning]
    assert files == {"config.json", "model.safetensors"} | beside
    assert not any(name.startswith("lm.") for name in load_file(tmp_path / "model.safetensors"))
    plain = (tmp_path / "config.json").stat().st_mode
    assert {path.stat().st_mode for path in tmp_path.rglob("*.safetensors")} == {plain}


def test_language_model_is_found_by_folder_and_checked(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "base")
    backbone = load_backbone(tmp_path / "base", dtype="float32")
    assert backbone.reference.name == "base"
    assert not any(p.requires_grad for p in backbone.lm.parameters())
    model = ItemLanguageModel(make_model().adapter, backbone)
    model.save_pretrained(tmp_path / "export")
    ItemLanguageModel.from_pretrained(tmp_path / "export", lm=tmp_path / "base")
    tiny_llama(num_hidden_layers=1).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"trained on base .* is other"):
        ItemLanguageModel.from_pretrained(tmp_path / "export", lm=tmp_path / "other")
    with pytest.raises(ValueError, match="untrained"):
        ItemLanguageModel.from_pretrained(tmp_path / "export", lm=load_backbone(tmp_path / "base", "full", "float32"))


def test_full_tuning_keeps_weights_in_float32(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, "full", "bfloat16")
    assert {p.dtype for p in backbone.lm.parameters()} == {torch.float32}
    assert backbone.compute_dtype is torch.bfloat16
    assert {p.dtype for p in load_backbone(tmp_path, "frozen", "bfloat16").lm.parameters()} == {torch.bfloat16}


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no exported model"):
        ItemLanguageModel.from_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="missing or damaged"):
        ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())
    edit(tmp_path, format_version=99)
    with pytest.raises(ValueError, match="format version 99"):
        ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())


def test_missing_language_model_parts_are_named(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    for tuning, part in (("lora", "lora"), ("full", "lm")):
        edit(tmp_path, tuning=tuning)
        with pytest.raises(ValueError, match=f"holds no {part} folder"):
            ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())
    edit(tmp_path, tuning="half")
    with pytest.raises(ValueError, match="unknown tuning 'half'"):
        ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())


def test_checkpoint_of_another_adapter_is_refused(tmp_path: Path) -> None:
    model, other = make_model(), make_model(queries=5)
    with pytest.raises(ValueError, match=r"'num_queries': 3.* has shape .* there and .* here"):
        model.load_trainable_state_dict(other.trainable_state_dict())
    state = model.trainable_state_dict()
    name = next(iter(state))
    with pytest.raises(ValueError, match=rf"missing {name}; not known here other"):
        model.load_trainable_state_dict(
            {key: value for key, value in state.items() if key != name} | {"other": state[name]}
        )
    model.save_pretrained(tmp_path)
    edit(tmp_path, adapter=other.adapter.config)
    with pytest.raises(ValueError, match="has shape"):
        ItemLanguageModel.from_pretrained(tmp_path, lm=untrained())


def test_frozen_run_continues_with_all_weights_trained() -> None:
    frozen, full = perturb(make_model()), make_model(Tuning.FULL)
    with pytest.raises(ValueError, match="missing lm"):
        full.load_trainable_state_dict(frozen.trainable_state_dict())
    full.load_trainable_state_dict(frozen.trainable_state_dict(), strict=False)
    assert all(torch.equal(a, b) for a, b in zip(full.adapter.parameters(), frozen.adapter.parameters(), strict=True))
    with pytest.raises(ValueError, match="not known here lm"):
        frozen.load_trainable_state_dict(full.trainable_state_dict(), strict=False)
