"""Models that cannot do what they are named for are told before anything is trained; hub names work like folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ilm_lightning.assets.cache import file_digest
from ilm_lightning.engine.artifacts import Store
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import AdapterConfig, Config, EncoderConfig, EvaluationConfig, LMConfig, TuningConfig
from ilm_lightning.engine.models import check_models
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.validate import ConfigError

COMMIT = "d" * 40


@pytest.fixture
def context(tiny_lm: Path, tiny_sentence_model: Path, tmp_path: Path) -> Context:
    config = Config(
        encoder=EncoderConfig(name="combined", text_model=str(tiny_sentence_model)),
        evaluation=EvaluationConfig(scorer=str(tiny_sentence_model)),
        lm=LMConfig(name=str(tiny_lm)),
        adapter=AdapterConfig(
            kind="qformer",
            bert=str(tiny_sentence_model),
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            intermediate_size=32,
        ),
        tuning=TuningConfig(mode="lora", lora_targets=["q_proj", "v_proj"]),
    )
    return Context(config, Store(tmp_path / "artifacts"), tmp_path)


def changed(source: Path, target: Path, remove: str = "", **config: Any) -> str:
    """A copy of a model folder without some files, or with another description."""
    shutil.copytree(source, target)
    for path in target.glob(remove or "nothing"):
        path.unlink()
    path = target / "config.json"
    if path.exists():
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return str(target)


def test_well_chosen_models_pass(context: Context) -> None:
    check_models(context, [context.config.adapter.bert])


@pytest.mark.parametrize(
    ("remove", "config", "message"),
    [
        ("config.json", {}, r"lm\.name=.* holds no config\.json; give the folder or hub name of a causal"),
        ("*.safetensors", {}, r"holds no \*\.safetensors"),
        ("tokenizer*", {}, "holds no tokenizer"),
        ("", {"architectures": ["BertModel"]}, "is a BertModel, which writes no text"),
        ("", {"architectures": ["T5EncoderModel"], "model_type": "t5"}, "is a T5EncoderModel, which writes no text"),
        ("", {"architectures": ["BartForConditionalGeneration"]}, "give .* an encoder-decoder of T5's family"),
    ],
)
def test_language_models(remove: str, config: dict[str, Any], message: str, context: Context, tmp_path: Path) -> None:
    source = Path(context.config.lm.name)
    context.config.lm.name = changed(source, tmp_path / "lm", remove, **config)
    with pytest.raises(ConfigError, match=message):
        check_models(context, [])


def test_lora_layers_are_looked_up_before_training(context: Context) -> None:
    context.config.tuning.lora_targets = ["q_proj", "c_attn"]
    with pytest.raises(ConfigError, match=r"has no layer c_attn; it has down_proj, .*q_proj.*all-linear"):
        check_models(context, [])
    context.config.tuning.lora_targets = ["all-linear"]
    check_models(context, [])


def test_encoder_decoders_pass_with_their_own_layers(context: Context, tmp_path: Path) -> None:
    from lm_tiny import byte_tokenizer, tiny_t5

    tiny_t5().save_pretrained(tmp_path / "t5")  # type: ignore[operator]
    byte_tokenizer().save_pretrained(tmp_path / "t5")
    context.config.lm.name = str(tmp_path / "t5")
    with pytest.raises(ConfigError, match=r"has no layer q_proj; it has k, o, q, v, wi, wo \(or take"):
        check_models(context, [])
    context.config.tuning.lora_targets = ["q", "v", "o", "wo"]
    check_models(context, [])


def test_sentence_models(context: Context, tiny_lm: Path) -> None:
    context.config.evaluation.scorer = str(tiny_lm)
    with pytest.raises(ConfigError, match=r"evaluation\.scorer=.* is a LlamaForCausalLM, a language model; give"):
        check_models(context, [])


@pytest.mark.parametrize(
    ("remove", "config", "message"),
    [
        ("", {"model_type": "mpnet"}, "is a mpnet model; the Q-Former starts from BERT's layout"),
        ("model.safetensors", {}, r"holds no model\.safetensors"),
        ("", {"hidden_size": 32}, r"adapter\.hidden_size=16, but .* has 32: set adapter\.hidden_size=32"),
        ("", {"num_hidden_layers": 0}, r"adapter\.num_layers=1, but .* has 0"),
    ],
)
def test_bert(remove: str, config: dict[str, Any], message: str, context: Context, tmp_path: Path) -> None:
    bert = changed(Path(context.config.adapter.bert), tmp_path / "bert", remove, **config)
    context.config.adapter.bert = bert
    with pytest.raises(ConfigError, match=message):
        check_models(context, [bert])


def into_hub_cache(source: Path, cache: Path, repo: str) -> None:
    """Lay a folder down as the hub's client does."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir()
    for path in (p for p in source.rglob("*") if p.is_file()):
        blob = home / "blobs" / file_digest(path)
        shutil.copyfile(path, blob)
        link = home / "snapshots" / COMMIT / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


def test_a_whole_run_on_models_of_the_hub(
    tiny_overrides: list[str],
    tiny_lm: Path,
    tiny_sentence_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    from ilm_lightning.chat import main as chat
    from ilm_lightning.engine.pipeline import run_id, run_pipeline
    from ilm_lightning.engine.validate import validate
    from ilm_lightning.lm import ItemLanguageModel

    cache = tmp_path / "hub"
    into_hub_cache(tiny_lm, cache, "org/lm")
    into_hub_cache(tiny_sentence_model, cache, "org/sentences")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = [
        "lm.name=org/lm",
        "adapter.bert=org/sentences",
        "encoder.text_model=org/sentences",
        "evaluation.scorer=org/sentences",
    ]
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=2", "tuning.val_every=2"]
    config = composed("experiment=ilm_qformer_bert", *tiny_overrides, *quick, *names)
    validate(config)
    run_pipeline(config)
    folder = Path(config.outputs) / run_id(config)
    exported = json.loads((folder / "model" / "config.json").read_text())
    assert exported["lm"]["name"] == f"org/lm@{COMMIT}"
    assert exported["lm"]["sha256"]
    assert 'base_model: "org/lm"' in (folder / "model" / "README.md").read_text()
    assert ItemLanguageModel.from_pretrained(folder / "model").reference.name == f"org/lm@{COMMIT}"
    # the branch moves on; the run keeps to the revision it was trained on
    (cache / "models--org--lm" / "refs" / "main").write_text("e" * 40)
    assert chat([f"run={folder}", "ask=Pitch [Film number 3].", "max_new_tokens=3"]) == 0
    capsys.readouterr()
