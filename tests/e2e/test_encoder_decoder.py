"""Recommendation and language tasks with an encoder-decoder, through the commands."""

import json
import os
from pathlib import Path

import polars as pl
import pytest
import torch
from lm_tiny import byte_tokenizer, tiny_flan
from test_recommendation import check_command, finished, run
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ilm_lightning.chat import main as chat
from ilm_lightning.lm import Collator, ItemLanguageModel, generate, load_backbone, target_losses
from ilm_lightning.lm.decoding import recommend
from ilm_lightning.lm.prompts import read_tokenizer


@pytest.fixture(scope="session")
def tiny_t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-t5")
    tiny_flan().save_pretrained(folder)  # type: ignore[operator]
    byte_tokenizer().save_pretrained(folder)
    return folder


def with_t5(arguments: list[str], folder: Path) -> list[str]:
    return [*(o for o in arguments if not o.startswith("lm.name")), "lm=t5", f"lm.name={folder}"]


@pytest.mark.parametrize(
    "extra",
    [
        ["experiment=openp5_encoder_decoder", "evaluation.filter_seen=true"],
        pytest.param(["experiment=ilm_mlp", "encoder=behavioral", "tuning=lora"], marks=pytest.mark.slow),
        pytest.param(["experiment=ilm_mlp", "encoder=behavioral", "tasks.head=item"], marks=pytest.mark.slow),
    ],
)
def test_a_run_ranks_held_out_items(
    overrides: list[str],
    extra: list[str],
    tiny_t5_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*extra, *with_t5(overrides, tiny_t5_folder)], monkeypatch) == 0, capsys.readouterr().err
    folder = finished(overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["language_model"] == str(tiny_t5_folder)
    table = pl.read_parquet(folder / "predictions.parquet")
    assert len(table) == 80
    assert table["rank"].max() > 0
    assert metrics["ranking"]["seen"]["sequential"]["invalid"] < 0.3
    capsys.readouterr()
    check_command(folder, capsys)


@pytest.mark.slow
def test_free_beams(
    overrides: list[str],
    tiny_t5_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = ["experiment=openp5_encoder_decoder", "evaluation.decoding=free", "evaluation.users=3"]
    assert run([*extra, *with_t5(overrides, tiny_t5_folder)], monkeypatch) == 0
    metrics = json.loads((finished(overrides) / "metrics.json").read_text())
    # an untrained model of random weights writes no item ids
    assert metrics["ranking"]["unseen"]["sequential"]["invalid"] > 0.9


@pytest.mark.slow
def test_chat_answers(
    tiny_overrides: list[str],
    tiny_t5_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra = ["experiment=ilm_mlp", "evaluation.conditions=[own]", "tasks.names=[summary,pitch]"]
    assert run([*extra, *with_t5(tiny_overrides, tiny_t5_folder)], monkeypatch) == 0, capsys.readouterr().err
    folder = finished(tiny_overrides)
    capsys.readouterr()
    assert chat([f"run={folder}", "ask=Pitch [Film number 3].", "max_new_tokens=3"]) == 0
    assert capsys.readouterr().out.strip()


def test_ids_that_cannot_be_written_are_told_before_training(
    overrides: list[str],
    tiny_t5_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "narrow"
    tiny_flan().save_pretrained(folder)  # type: ignore[operator]
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "item_": 3, **{str(digit): digit + 4 for digit in range(8)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("item_", "isolated")
    narrow = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    narrow.save_pretrained(folder)
    assert run(["experiment=openp5_encoder_decoder", *with_t5(overrides, folder)], monkeypatch) == 1
    assert "does not know all characters of item_1001; take data.indexing=sequential or random" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_real_weights() -> None:
    if "ILM_T5" not in os.environ:
        pytest.skip("ILM_T5 is not set: the folder of a pretrained T5")
    folder = Path(os.environ["ILM_T5"])
    backbone = load_backbone(folder, "frozen", "float32")
    from ilm_lightning.adapters import build_adapter
    from ilm_lightning.evaluation.trie import build_trie

    width = backbone.lm.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    torch.manual_seed(0)
    adapter = build_adapter(
        {"kind": "mlp", "source_dims": {"behavioral": 4}, "output_dim": width, "hidden_width": 16, "num_queries": 2}
    )
    model = ItemLanguageModel(adapter, backbone).eval()
    tokenizer = read_tokenizer(folder, 2)
    text = "A heist goes wrong, and a detective hunts the crew through Los Angeles at night."
    rows = [
        {"example_id": "a", "prompt": f"summarize: {text}", "slots": [], "target": "Heist"},
        {"example_id": "b", "prompt": "Shop user_3 bought item_1001 {item} . Next ?", "slots": [[0]], "target": "x"},
    ]
    examples = tokenizer.encode(rows)
    collator = Collator({"behavioral": torch.randn(3, 4)})
    written = generate(model, examples, collator, tokenizer, 12)
    inputs = tokenizer.tokenizer(f"summarize: {text}", return_tensors="pt")
    theirs = backbone.lm.generate(**inputs, max_new_tokens=12, do_sample=False)[0]  # type: ignore[operator]
    assert written.texts[0] == tokenizer.tokenizer.decode(theirs, skip_special_tokens=True).strip()
    labels = torch.from_numpy(examples[0].target_ids).long()[None]
    loss = backbone.lm(**inputs, labels=labels).loss.item()
    losses = target_losses(model, examples, collator).token_losses
    assert losses[0].mean() == pytest.approx(loss, abs=1e-4)
    answers = tokenizer.pieces([f"Shop item_{number}" for number in range(1001, 1031)])
    trie = build_trie([[*ids.tolist(), tokenizer.eos_id] for ids in answers])
    found = recommend(model, examples[1:], collator, trie, 10, 30)
    assert len(set(found.items[0].tolist())) == 10
