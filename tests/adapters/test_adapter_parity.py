"""The Q-Former against transformers' dense models on copied weights, in float64 to 1e-9."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, Blip2QFormerConfig, Blip2QFormerModel

from ilm_lightning.adapters import QFormer, TextBranch, init_from_bert

SIZES: dict[str, Any] = {"hidden_size": 24, "num_layers": 4, "num_heads": 4, "ffn_size": 40}
VOCABULARY = 31
COMBINED = {"behavioral": 5, "semantic": 7}
QUERIES, TEXTS, TOKENS = 3, 5, 9


def make(dims: Mapping[str, int] = COMBINED, **settings: Any) -> QFormer:
    torch.manual_seed(0)
    qformer = QFormer(dims, num_queries=QUERIES, **{**SIZES, **settings}).double().eval()
    randomise(qformer)
    return qformer


def make_text(qformer: QFormer) -> TextBranch:
    torch.manual_seed(1)
    branch = TextBranch.for_qformer(qformer, vocab_size=VOCABULARY, max_positions=12).double().eval()
    randomise(branch)
    return branch


def randomise(module: torch.nn.Module) -> None:
    """Gives every parameter, biases and LayerNorms too, values large enough for an error to show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def vectors(dims: Mapping[str, int] = COMBINED, rows: int = TEXTS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(rows, width, generator=generator, dtype=torch.float64) for name, width in dims.items()}


def texts() -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, VOCABULARY, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(4))
    lengths = torch.tensor([9, 4, 1, 7, 6])
    mask = (torch.arange(TOKENS) < lengths[:, None]).long()
    mask[3, 2] = 0  # padding need not be at the end
    return ids, mask


def reference(qformer: QFormer, branch: TextBranch | None = None, every: int = 2) -> Blip2QFormerModel:
    """transformers' Q-Former with the weights of ours."""
    config = Blip2QFormerConfig(
        hidden_size=qformer.hidden_size,
        num_hidden_layers=qformer.num_layers,
        num_attention_heads=qformer.num_heads,
        intermediate_size=qformer.ffn_size,
        encoder_hidden_size=qformer.hidden_size,
        cross_attention_frequency=every,
        use_qformer_text_input=branch is not None,
        attn_implementation="sdpa",
    )
    model = Blip2QFormerModel(config).double().eval()
    state = model.state_dict()

    def put(target: str, weight_and_bias: Mapping[str, Tensor]) -> None:
        for part in ("weight", "bias"):
            assert state[f"{target}.{part}"].shape == weight_and_bias[part].shape, target
            state[f"{target}.{part}"].copy_(weight_and_bias[part])

    def put_split(targets: list[str], weight_and_bias: Mapping[str, Tensor]) -> None:
        pieces = {part: tensor.chunk(len(targets)) for part, tensor in weight_and_bias.items()}
        for i, target in enumerate(targets):
            put(target, {part: pieces[part][i] for part in pieces})

    put("layernorm", qformer.embedding_norm.state_dict())
    for i, layer in enumerate(qformer.blocks):
        hf = f"encoder.layer.{i}"
        own = layer.self_attention
        put_split([f"{hf}.attention.attention.{x}" for x in ("query", "key", "value")], own.qkv.state_dict())
        put(f"{hf}.attention.output.dense", own.output.state_dict())
        put(f"{hf}.attention.output.LayerNorm", own.norm.state_dict())
        if (cross := layer.cross_attention) is not None:
            if cross.single_key:
                put(f"{hf}.crossattention.attention.value", cross.value.state_dict())
            else:
                put(f"{hf}.crossattention.attention.query", cross.query.state_dict())
                put_split(
                    [f"{hf}.crossattention.attention.{x}" for x in ("key", "value")], cross.key_value.state_dict()
                )
            put(f"{hf}.crossattention.output.dense", cross.output.state_dict())
            put(f"{hf}.crossattention.output.LayerNorm", cross.norm.state_dict())
        ffns = {"_query": layer.query_ffn} | ({"": branch.ffns[i]} if branch is not None else {})
        for suffix, ffn in ffns.items():
            put(f"{hf}.intermediate{suffix}.dense", ffn.up.state_dict())
            put(f"{hf}.output{suffix}.dense", ffn.down.state_dict())
            put(f"{hf}.output{suffix}.LayerNorm", ffn.norm.state_dict())
    return model


def dense_inputs(qformer: QFormer, branch: TextBranch, ids: Tensor) -> Tensor:
    """Queries and text embeddings [n, q + t, h] before the LayerNorm that both share."""
    text = branch.word_embeddings(ids) + branch.position_embeddings.weight[: ids.shape[1]]
    return torch.cat([qformer.queries.expand(len(ids), -1, -1), text], dim=1)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("source_tokens", [1, 4])
@pytest.mark.parametrize("dims", [{"behavioral": 5}, COMBINED], ids=["one-source", "two-sources"])
def test_query_path_equals_transformers(dims: dict[str, int], source_tokens: int, every: int) -> None:
    qformer = make(dims, source_tokens=source_tokens, cross_attention_every=every)
    sources = vectors(dims)
    tokens = qformer.embed_sources(sources).tokens
    assert tokens.shape == (TEXTS, source_tokens * len(dims), 24)
    model = reference(qformer, every=every)
    queries = qformer.queries.expand(TEXTS, -1, -1)
    expected = model(query_embeds=queries, encoder_hidden_states=tokens).last_hidden_state
    assert_equal(qformer(sources).hidden, expected)
    single = model.float()(query_embeds=queries.float(), encoder_hidden_states=tokens.float()).last_hidden_state
    ours = qformer.float()({name: vector.float() for name, vector in sources.items()}).hidden
    assert (ours - single).abs().max() < 1e-5


def test_source_mask_equals_transformers_encoder_mask() -> None:
    qformer, sources = make(source_tokens=2), vectors()
    mask = torch.tensor([[True, False], [False, True], [True, True], [True, False], [True, True]])
    expected = reference(qformer)(
        query_embeds=qformer.queries.expand(TEXTS, -1, -1),
        encoder_hidden_states=qformer.embed_sources(sources).tokens,
        encoder_attention_mask=mask.repeat_interleave(2, dim=1),
    ).last_hidden_state
    assert_equal(qformer(sources, mask).hidden, expected)


def test_source_tokens_are_the_input_map_plus_the_source_embedding() -> None:
    qformer, sources = make(source_tokens=2), vectors()
    expected = []
    for i, name in enumerate(("behavioral", "semantic")):
        mapped = qformer.get_submodule(f"input_maps.{name}")(sources[name])
        expected += [mapped[:, :24] + qformer.source_embedding[i], mapped[:, 24:] + qformer.source_embedding[i]]
    assert_equal(qformer.embed_sources(sources).tokens, torch.stack(expected, dim=1))


def test_new_source_tokens_have_mean_square_one() -> None:
    torch.manual_seed(0)
    qformer = QFormer({"behavioral": 64, "semantic": 384}, num_layers=1)
    tokens = qformer.embed_sources({"behavioral": torch.randn(50, 64), "semantic": torch.randn(50, 384)}).tokens
    assert tokens.square().mean((0, 2)).sub(1).abs().max() < 0.15


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_text_path_equals_bert(prefix: str) -> None:
    qformer, ids_mask = make(), texts()
    branch = make_text(qformer)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=12,
    )
    torch.manual_seed(5)
    bert = BertModel(config, add_pooling_layer=False).double().eval()
    randomise(bert)
    report = init_from_bert(qformer, branch, {prefix + name: tensor for name, tensor in bert.state_dict().items()})
    assert sum(": copied" in line for line in report) == 2 + 4 * 12 + 2 + 4 * 6
    ids, mask = ids_mask
    expected = bert(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    assert_equal(branch.encode_text(qformer, ids, mask), expected)
    everything = torch.ones_like(mask)
    assert_equal(branch.encode_text(qformer, ids, everything), bert(input_ids=ids).last_hidden_state)
    ours = branch.float().encode_text(qformer.float(), ids, mask)
    single = bert.float()(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    assert (ours - single).abs().max() < 1e-5


def test_language_model_head_equals_bert_for_masked_lm() -> None:
    qformer = make()
    branch = make_text(qformer)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=12,
    )
    torch.manual_seed(5)
    bert = BertForMaskedLM(config).double().eval()
    randomise(bert)
    init_from_bert(qformer, branch, bert.state_dict())
    ids, mask = texts()
    logits = branch.logits(branch.encode_text(qformer, ids, mask))
    assert logits.shape == (TEXTS, TOKENS, VOCABULARY + 1)
    expected = bert(input_ids=ids, attention_mask=mask).logits
    real = mask.bool()
    assert_equal(logits[..., :-1][real], expected[real])


@pytest.mark.parametrize("dims", [{"behavioral": 5}, COMBINED], ids=["one-key", "two-keys"])
def test_joint_path_equals_transformers(dims: dict[str, int]) -> None:
    qformer, sources = make(dims), vectors(dims)
    branch = make_text(qformer)
    ids, mask = texts()
    expected = reference(qformer, branch)(
        query_embeds=dense_inputs(qformer, branch, ids),
        query_length=QUERIES,
        attention_mask=torch.cat([mask.new_ones(TEXTS, QUERIES), mask], dim=1),
        encoder_hidden_states=qformer.embed_sources(sources).tokens,
    ).last_hidden_state[:, :QUERIES]
    assert_equal(branch.encode_joint(qformer, sources, ids, mask), expected)


def test_decoding_equals_transformers_with_a_prefix_mask() -> None:
    qformer, sources = make(), vectors()
    branch = make_text(qformer)
    ids, mask = texts()
    ids = branch.decoder_ids(ids)
    length = QUERIES + TOKENS
    visible = torch.zeros(TEXTS, length, length, dtype=torch.bool)
    for row in range(TEXTS):
        for position in range(length):
            for key in range(length):
                text_key = key >= QUERIES and mask[row, key - QUERIES] == 1 and key <= position
                visible[row, position, key] = key < QUERIES or (position >= QUERIES and text_key)
    expected = reference(qformer, branch)(
        query_embeds=dense_inputs(qformer, branch, ids),
        query_length=QUERIES,
        attention_mask=visible[:, None],
        encoder_hidden_states=qformer.embed_sources(sources).tokens,
    ).last_hidden_state
    output = qformer(sources)
    assert_equal(output.hidden, expected[:, :QUERIES])  # the queries do not see the text
    decoded = branch.decode_text(qformer, output.keys_values, ids, mask)
    assert_equal(decoded, expected[:, QUERIES:] * mask[..., None])
