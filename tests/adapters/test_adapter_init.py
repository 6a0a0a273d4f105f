"""Starting from a BERT-type checkpoint: what is copied, what stays new, what is refused."""

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel

from ilm_lightning.adapters import QFormer, TextBranch, init_from_bert

VOCABULARY = 31


def bert_state(layers: int = 2, hidden: int = 16, positions: int = 10) -> dict[str, Tensor]:
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=positions,
    )
    return dict(BertModel(config).state_dict())


@pytest.fixture
def qformer() -> QFormer:
    torch.manual_seed(0)
    return QFormer({"a": 5, "b": 7}, num_queries=3, hidden_size=16, num_layers=2, num_heads=4, ffn_size=24)


@pytest.fixture
def branch(qformer: QFormer) -> TextBranch:
    torch.manual_seed(1)
    return TextBranch.for_qformer(qformer, vocab_size=VOCABULARY, max_positions=10)


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_report_names_every_tensor_and_is_true(qformer: QFormer, branch: TextBranch) -> None:
    before = {"qformer": snapshot(qformer), "text_branch": snapshot(branch)}
    report = init_from_bert(qformer, branch, bert_state())
    after = {"qformer": snapshot(qformer), "text_branch": snapshot(branch)}
    lines = dict(line.split(": ", 1) for line in report)
    assert list(lines) == [f"{part}.{name}" for part, tensors in after.items() for name in tensors]
    for part, tensors in after.items():
        for name, tensor in tensors.items():
            source = lines[f"{part}.{name}"]
            # biases and LayerNorms of a fresh BERT equal ours, so only maps and embeddings can show a copy
            if source == "new":
                assert torch.equal(tensor, before[part][name]), name
            elif tensor.ndim == 2:
                assert not torch.equal(tensor, before[part][name]), name
    new = {name for name, source in lines.items() if source == "new"}
    assert {name for name in new if name.startswith("qformer.")} == {
        f"qformer.{name}"
        for name in after["qformer"]
        if name in ("queries", "source_embedding") or "input_maps" in name or "cross_attention" in name
    }
    assert {name for name in new if name.startswith("text_branch.")} == {
        "text_branch.head_transform.weight",
        "text_branch.head_transform.bias",
        "text_branch.head_norm.weight",
        "text_branch.head_norm.bias",
        "text_branch.head_bias",
    }


def test_values_and_the_copied_query_ffn(qformer: QFormer, branch: TextBranch) -> None:
    state = bert_state()
    start_row = branch.word_embeddings.weight[-1].clone()
    init_from_bert(qformer, branch, state)
    own, text = qformer.state_dict(), branch.state_dict()
    names = [f"encoder.layer.1.attention.self.{part}.weight" for part in ("query", "key", "value")]
    assert torch.equal(own["layers.1.self_attention.qkv.weight"], torch.cat([state[name] for name in names]))
    for part in ("up.weight", "up.bias", "down.weight", "down.bias", "norm.weight", "norm.bias"):
        assert torch.equal(own[f"layers.1.query_ffn.{part}"], text[f"ffns.1.{part}"])
    assert own["layers.1.query_ffn.up.weight"].data_ptr() != text["ffns.1.up.weight"].data_ptr()
    assert torch.equal(text["word_embeddings.weight"][:-1], state["embeddings.word_embeddings.weight"])
    assert torch.equal(text["word_embeddings.weight"][-1], start_row)
    expected = state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
    assert torch.equal(text["position_embeddings.weight"], expected)


def test_prefix_old_names_and_extra_layers_make_no_difference(qformer: QFormer, branch: TextBranch) -> None:
    state = bert_state(layers=3)
    init_from_bert(qformer, branch, state)
    expected = snapshot(qformer)
    for part, name in (("weight", "gamma"), ("bias", "beta")):
        state = {key.replace(f"LayerNorm.{part}", f"LayerNorm.{name}"): tensor for key, tensor in state.items()}
    old = {f"bert.{name}": tensor for name, tensor in state.items()}
    torch.manual_seed(9)
    other = QFormer({"a": 5, "b": 7}, num_queries=3, hidden_size=16, num_layers=2, num_heads=4, ffn_size=24)
    init_from_bert(other, None, old)
    for name, tensor in other.state_dict().items():
        if "self_attention" in name or "ffn" in name or "embedding_norm" in name:
            assert torch.equal(tensor, expected[name]), name


def test_language_model_head_is_copied_where_there_is_one(qformer: QFormer, branch: TextBranch) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=10,
    )
    report = init_from_bert(qformer, branch, BertForMaskedLM(config).state_dict())
    assert not [line for line in report if line.startswith("text_branch.") and line.endswith(": new")]


def test_without_text_branch_only_the_query_path_is_reported(qformer: QFormer) -> None:
    report = init_from_bert(qformer, None, bert_state())
    assert len(report) == len(qformer.state_dict())
    assert all(line.startswith("qformer.") for line in report)


def test_shorter_positions_take_the_first_rows(qformer: QFormer) -> None:
    branch = TextBranch.for_qformer(qformer, vocab_size=VOCABULARY, max_positions=4)
    state = bert_state(positions=10)
    init_from_bert(qformer, branch, state)
    expected = state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
    assert torch.equal(branch.position_embeddings.weight, expected[:4])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"transformer.wte.weight": torch.zeros(3, 3)},
            "it is not a BERT-type encoder",
        ),
        (bert_state(layers=1), r"no tensor 'encoder.layer.1.*lower num_layers"),
        (bert_state(hidden=32), r"has shape \[32\], qformer.embedding_norm.weight has \[16\]: choose hidden_size"),
        (bert_state(positions=5), r"shape \[5, 16\], text_branch.position_embeddings.weight has \[10, 16\]"),
    ],
    ids=["other-model", "too-few-layers", "other-width", "too-few-positions"],
)
def test_an_unfit_checkpoint_is_refused_and_changes_nothing(
    qformer: QFormer, branch: TextBranch, state: dict[str, Tensor], message: str
) -> None:
    before = {**snapshot(qformer), **snapshot(branch)}
    with pytest.raises(ValueError, match=message):
        init_from_bert(qformer, branch, state)
    after = {**snapshot(qformer), **snapshot(branch)}
    assert all(torch.equal(after[name], before[name]) for name in before)
