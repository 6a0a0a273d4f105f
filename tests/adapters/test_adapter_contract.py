"""The suite that every adapter passes; a new kind is added to CASES and nothing else."""

import doctest
import json
from typing import Any

import pytest
import torch

from ilm_lightning.adapters import Adapter, base, build_adapter, count_parameters, layers, mlp

SMALL = {"hidden_size": 16, "num_layers": 3, "num_heads": 4, "ffn_size": 24}
ENCODERS = {
    "behavioral": {"behavioral": 5},
    "semantic": {"semantic": 7},
    "combined": {"semantic": 7, "behavioral": 5},
}
KINDS: dict[str, dict[str, Any]] = {
    "qformer": {"kind": "qformer", **SMALL},
    "qformer-every-block": {"kind": "qformer", **SMALL, "cross_attention_every": 1},
    "qformer-4-source-tokens": {"kind": "qformer", **SMALL, "source_tokens": 4},
    "qformer-concatenated": {"kind": "qformer", **SMALL, "concatenate": True},
    "qformer-concatenated-4": {"kind": "qformer", **SMALL, "concatenate": True, "source_tokens": 4},
    "mlp": {"kind": "mlp", "hidden_width": 9},
    "mlp-matched": {"kind": "mlp", "match": SMALL},
    "collm": {"kind": "collm"},
    "perceiver": {"kind": "perceiver", **SMALL},
    "constant": {"kind": "constant"},
}
CASES = [
    pytest.param({**settings, "source_dims": dims, "output_dim": 6, "num_queries": q}, id=f"{kind}-{encoder}-{q}")
    for kind, settings in KINDS.items()
    for encoder, dims in ENCODERS.items()
    for q in (1, 3)
]
READING = [case for case in CASES if case.values[0]["kind"] != "constant"]  # type: ignore[index,call-overload]
"""All but the one that takes the vectors of any encoder."""


def make(config: dict[str, Any], seed: int = 0) -> Adapter:
    torch.manual_seed(seed)
    return build_adapter(config).double().eval()


def vectors(config: dict[str, Any], rows: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dims = config["source_dims"]
    return {s: torch.randn(rows, d, generator=generator, dtype=torch.float64) for s, d in dims.items()}


def test_every_kind_is_in_the_suite() -> None:
    assert {settings["kind"] for settings in KINDS.values()} == set(Adapter._kinds)


@pytest.mark.parametrize("config", CASES)
class TestEveryAdapter:
    def test_shape_dtype_and_attributes(self, config: dict[str, Any]) -> None:
        adapter = make(config)
        for rows in (0, 1, 4):
            assert adapter(vectors(config, rows)).shape == (rows, config["num_queries"], 6)
        assert adapter(vectors(config, 2)).dtype == torch.float64
        assert adapter.kind == config["kind"]
        assert (adapter.num_queries, adapter.output_dim) == (config["num_queries"], 6)
        assert adapter.source_dims == config["source_dims"]
        assert list(adapter.source_dims) == sorted(config["source_dims"])

    def test_an_item_does_not_depend_on_the_rest_of_its_batch(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config), vectors(config, 6)
        whole = adapter(sources)
        order = torch.tensor([4, 0, 5])
        part = adapter({name: vector[order] for name, vector in sources.items()})
        torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-12)
        alone = adapter({name: vector[2:3] for name, vector in sources.items()})
        torch.testing.assert_close(alone, whole[2:3], rtol=0, atol=1e-12)

    def test_evaluation_is_deterministic(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config), vectors(config, 4)
        assert torch.equal(adapter(sources), adapter(sources))
        assert torch.equal(adapter(sources), make(config)(sources))

    def test_every_parameter_gets_a_gradient(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config).train(), vectors(config, 8)
        torch.manual_seed(2)
        output = adapter(sources)
        (output * torch.randn_like(output)).sum().backward()
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name

    def test_config_and_state_dict_restore_it(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config), vectors(config, 3)
        stored = json.loads(json.dumps(adapter.config, sort_keys=True))
        other = make(stored, seed=99)
        other.load_state_dict(adapter.state_dict(), strict=True)
        assert torch.equal(other(sources), adapter(sources))
        assert other.config == adapter.config

    def test_two_adapters_share_no_config(self, config: dict[str, Any]) -> None:
        before = json.dumps(config)
        adapter = make(config)
        adapter.config["source_dims"]["other"] = 1
        assert "other" not in adapter.source_dims
        assert json.dumps(config) == before

    def test_order_and_extra_sources_do_not_matter(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config), vectors(config, 3)
        shuffled = {"unused": torch.zeros(1, 1), **dict(reversed(sources.items()))}
        assert torch.equal(adapter(shuffled), adapter(sources))

    def test_mask_of_all_true_changes_nothing_and_bad_masks_are_refused(self, config: dict[str, Any]) -> None:
        adapter, sources = make(config), vectors(config, 3)
        mask = torch.ones(3, len(sources), dtype=torch.bool)
        torch.testing.assert_close(adapter(sources, mask), adapter(sources), rtol=0, atol=1e-12)
        with pytest.raises(ValueError, match="hides every source"):
            adapter(sources, ~mask)
        with pytest.raises(ValueError, match=r"shape \[2, "):
            adapter(sources, mask[:2])

    def test_runs_under_bfloat16_autocast(self, config: dict[str, Any]) -> None:
        adapter = make(config).float()
        sources = {name: vector.float() for name, vector in vectors(config, 3).items()}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = adapter(sources)
        torch.testing.assert_close(low.float(), adapter(sources), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["qformer", "qformer-concatenated", "mlp"])
def test_a_masked_source_is_not_read(kind: str) -> None:
    config = {**KINDS[kind], "source_dims": ENCODERS["combined"], "output_dim": 6, "num_queries": 3}
    adapter, sources = make(config), vectors(config, 3)
    mask = torch.tensor([[True, False], [True, True], [False, True]])  # columns: behavioral, semantic
    before = adapter(sources, mask)
    sources["semantic"][0] = 100.0
    sources["behavioral"][2] = 100.0
    assert torch.equal(adapter(sources, mask), before)
    sources["semantic"][1] += 1.0
    changed = (adapter(sources, mask) != before).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_concatenation_is_one_key_for_both_sources() -> None:
    config = {**KINDS["qformer-concatenated"], "source_dims": ENCODERS["combined"], "output_dim": 6}
    adapter, sources = make(config), vectors(config, 3)
    assert adapter.get_submodule("qformer.input_maps.joint").in_features == 12
    assert adapter.get_parameter("qformer.source_embedding").shape == (1, 16)
    keys = adapter.qformer.embed_sources(sources)  # type: ignore[operator, union-attr]
    assert keys.tokens.shape == (3, 1, 16)
    # the joint map is the sum of one map a source: the columns of each act on its vector alone
    weight, bias = (
        adapter.get_parameter("qformer.input_maps.joint.weight"),
        adapter.get_parameter("qformer.input_maps.joint.bias"),
    )
    expected = sources["behavioral"] @ weight[:, :5].T + sources["semantic"] @ weight[:, 5:].T + bias
    torch.testing.assert_close(keys.tokens[:, 0], expected + adapter.get_parameter("qformer.source_embedding")[0])
    single = make({**config, "source_dims": ENCODERS["semantic"]})
    assert "qformer.input_maps.semantic.weight" in dict(single.named_parameters())


def test_different_numbers_of_items_are_refused() -> None:
    config = {**KINDS["mlp"], "source_dims": ENCODERS["combined"], "output_dim": 6}
    with pytest.raises(ValueError, match=r"different numbers of items: \{'behavioral': 2, 'semantic': 3\}"):
        make(config)({"behavioral": torch.zeros(2, 5), "semantic": torch.zeros(3, 7)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "qformr"}, "unknown adapter kind 'qformr': use one of collm, constant, mlp, perceiver, qformer"),
        ({"kind": None}, "unknown adapter kind None"),
        ({"layers": 3}, "does not know layers: it takes source_dims, .*num_layers"),
        ({"source_dims": {}}, "at least one source"),
        ({"source_dims": {"semantic": 0}}, "source_dims.semantic=0"),
        ({"source_dims": {"a.b": 3}}, "source name 'a.b'"),
        ({"source_dims": {"keys": 3}}, "source name 'keys'"),
        ({"num_queries": 0}, "num_queries=0"),
        ({"output_dim": -1}, "output_dim=-1"),
        ({"num_heads": 5}, "hidden_size=16 is not a multiple of num_heads=5"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"cross_attention_every": 0}, "cross_attention_every=0"),
        ({"source_tokens": 0}, "source_tokens=0"),
    ],
)
def test_bad_configs_say_what_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_adapter({**KINDS["qformer"], "source_dims": {"semantic": 7}, "output_dim": 6, **change})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ValueError, match="adapter 'constant' needs output_dim"):
        build_adapter({"kind": "constant", "source_dims": {"semantic": 7}})


def test_checkpoint_of_another_adapter_is_refused() -> None:
    config = {**KINDS["qformer"], "source_dims": {"semantic": 7}, "output_dim": 6}
    other = make({**config, "source_dims": {"behavioral": 5}})
    with pytest.raises(RuntimeError, match=r"input_maps\.semantic\.weight"):
        make(config).load_state_dict(other.state_dict())


@pytest.mark.parametrize("config", READING)
def test_wrong_width_names_source_got_and_expected(config: dict[str, Any]) -> None:
    adapter, sources = make(config), vectors(config, 3)
    name = min(sources)
    width = sources[name].shape[1]
    sources[name] = torch.randn(3, width + 2)
    with pytest.raises(ValueError, match=rf"'{name}' has shape \[3, {width + 2}\], expected \[n, {width}\]"):
        adapter(sources)
    sources[name] = torch.randn(width)
    with pytest.raises(ValueError, match=rf"'{name}' has shape \[{width}\]"):
        adapter(sources)


@pytest.mark.parametrize("config", READING)
def test_missing_source_is_named(config: dict[str, Any]) -> None:
    adapter = make(config)
    sources = vectors(config, 3) | {"other": torch.randn(3, 4)}
    name = max(config["source_dims"])
    del sources[name]
    with pytest.raises(ValueError, match=rf"source '{name}' is missing: got \[.*'other'.*\], expected .*'{name}'"):
        adapter(sources)


def test_constant_takes_the_vectors_of_any_encoder() -> None:
    adapter = make({"kind": "constant", "source_dims": {"semantic": 7}, "output_dim": 6, "num_queries": 3})
    assert adapter({"behavioral": torch.randn(4, 5)}).shape == (4, 3, 6)
    with pytest.raises(ValueError, match="no source"):
        adapter({})
    with pytest.raises(ValueError, match="different numbers of items"):
        adapter({"behavioral": torch.randn(4, 5), "other": torch.randn(3, 7)})


def test_constant_gives_every_item_its_parameters() -> None:
    adapter = make({"kind": "constant", "source_dims": {"semantic": 7}, "output_dim": 6, "num_queries": 3})
    tokens = adapter({"semantic": torch.randn(2, 7)})
    assert torch.equal(tokens[0], adapter.get_parameter("soft_tokens"))
    assert torch.equal(tokens[0], tokens[1])
    assert count_parameters(adapter) == 3 * 6


@pytest.mark.parametrize("module", [base, layers, mlp])
def test_doctests(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
