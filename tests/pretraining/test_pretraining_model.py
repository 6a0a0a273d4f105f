"""From a batch to loss terms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pretraining_tiny import WIDTH, World
from torch.nn import functional as F

from ilm_lightning.adapters import Adapter, build_adapter
from ilm_lightning.pretraining import losses as L
from ilm_lightning.pretraining.batches import EvaluationBatches, ItemTextBatch, PairBatch, PairBatches, collate
from ilm_lightning.pretraining.model import PretrainingModel, VectorTable
from ilm_lightning.pretraining.pairs import ITEM_ITEM, ITEM_TEXT, USER_ITEM
from ilm_lightning.pretraining.retrieval import bag_retrieval, recall_at, retrieval
from ilm_lightning.pretraining.settings import PretrainingSettings

ALL = ("itc", "itm", "itg", "iic", "uic", "vg")


def text_batch(world: World, rows: list[int]) -> ItemTextBatch:
    batch = collate(world.texts, np.asarray(rows), 0, 0, world.vocabulary)
    assert isinstance(batch, ItemTextBatch)
    return batch


def pair_batch(world: World, kind: str, n: int = 8) -> PairBatch:
    pairs = world.item_item if kind == ITEM_ITEM else world.user_item
    batch = collate(pairs, np.arange(n), 0, 0, None)
    assert isinstance(batch, PairBatch)
    return batch


def test_terms_of_each_kind_of_batch(world: World) -> None:
    model = world.model(*ALL)
    assert set(model(text_batch(world, [0, 1, 2]))) == {
        "itc", "temperature", "itm", "itm_accuracy", "itg", "itg_nll", "vg", "vg_scale",
    }  # fmt: skip
    assert set(model(pair_batch(world, ITEM_ITEM))) == {"iic", "iic_active"}
    assert set(model(pair_batch(world, USER_ITEM))) == {"uic", "uic_active"}


def test_only_the_chosen_losses_are_computed(world: World) -> None:
    assert set(world.model("itg")(text_batch(world, [0, 1]))) == {"itg", "itg_nll"}
    alone = world.model("vg")
    assert alone.text_branch is None
    assert set(alone(text_batch(world, [0, 1]))) == {"vg", "vg_scale"}


def test_total_is_the_weighted_sum_of_the_losses(world: World) -> None:
    model = world.model("itc", "itg", loss_weights={"itg": 0.5})
    terms = model(text_batch(world, [0, 1, 2]))
    assert model.total(terms).item() == pytest.approx((terms["itc"] + 0.5 * terms["itg"]).item())


def test_itc_term_is_the_loss_of_the_projected_states(world: World) -> None:
    model = world.model("itc").eval()
    batch = text_batch(world, [3, 7, 9, 3])
    hidden = model.adapter.qformer(model.items(batch.items)).hidden
    queries = F.normalize(model.item_proj(hidden), dim=-1)
    assert model.text_branch is not None
    first = model.text_branch.encode_text(model.adapter.qformer, batch.token_ids, batch.mask)[:, 0]
    texts = F.normalize(model.text_proj(first), dim=-1)
    expected = L.itc_loss(queries, texts, 0.07, batch.items, batch.text_ids).loss
    assert model(batch)["itc"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_itg_term_reads_the_own_item_and_ignores_padding(world: World) -> None:
    model = world.model("itg").eval()
    batch = text_batch(world, [4, 5])
    assert model.text_branch is not None
    total, count = 0.0, 0
    for row in range(2):
        output = model.adapter.qformer(model.items(batch.items[row : row + 1]))
        ids = batch.token_ids[row : row + 1][:, batch.mask[row]]
        hidden = model.text_branch.decode_text(
            model.adapter.qformer, output.keys_values, model.text_branch.decoder_ids(ids), torch.ones_like(ids)
        )
        log_probs = model.text_branch.logits(hidden)[0, :-1].log_softmax(dim=1)
        total -= log_probs.gather(1, ids[0, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    assert model(batch)["itg_nll"].item() == pytest.approx(total / count, abs=1e-5)
    padded = replace(
        batch,
        token_ids=F.pad(batch.token_ids, (0, 3), value=7),
        mask=F.pad(batch.mask, (0, 3), value=False),
    )
    assert model(padded)["itg"].item() == pytest.approx(model(batch)["itg"].item(), abs=1e-6)


def test_itm_without_any_negative_sees_the_true_pairs_only(world: World) -> None:
    model = world.model("itc", "itm")
    terms = model(text_batch(world, [2, 2]))
    assert torch.isfinite(terms["itm"])
    again = model(text_batch(world, [2]))
    assert again["itm"].item() == pytest.approx(terms["itm"].item(), abs=1e-5)


def test_pair_terms_by_the_formula(world: World) -> None:
    batch = pair_batch(world, ITEM_ITEM)
    model = world.model("iic", margin=1.4)
    states = model.adapter.qformer(world.items).hidden.mean(dim=1)
    unit = F.normalize(model.pair_proj(states), dim=1)
    distance = (unit[:, None] - unit[None]).norm(dim=2)
    total, count, active = 0.0, 0, 0
    for row, negative in enumerate(batch.negatives.tolist()):
        left = batch.left[row]
        total += distance[left, batch.right[row]].item() ** 2
        count += 1
        if negative >= 0:
            gap = 1.4 - distance[left, batch.right[negative]].item()
            total += max(0.0, gap) ** 2
            active += gap > 0
            count += 1
    terms = model(batch)
    assert terms["iic"].item() == pytest.approx(total / (2 * count), abs=1e-5)
    assert terms["iic_active"].item() == pytest.approx(active / (count - len(batch.left)), abs=1e-6)


@pytest.mark.parametrize("mode", ["margin", "margin_all", "infonce"])
def test_users_pass_through_the_items_input_map(world: World, mode: str) -> None:
    model = world.model("uic", pair_mode=mode)
    batch = pair_batch(world, USER_ITEM)
    users = F.normalize(model.pair_proj(model.adapter.qformer(world.users).hidden.mean(dim=1)), dim=1)[batch.left]
    items = F.normalize(model.pair_proj(model.adapter.qformer(world.items).hidden.mean(dim=1)), dim=1)[batch.right]
    if mode == "infonce":
        expected = L.in_batch_info_nce(users, items, batch.related)
    elif mode == "margin_all":
        expected = L.in_batch_pair_loss(users, items, batch.related)[0]
    else:
        drawn = batch.negatives >= 0
        expected = L.pair_contrastive_loss(
            torch.cat([users, users[drawn]]),
            torch.cat([items, items[batch.negatives[drawn]]]),
            torch.cat([torch.ones(len(users)), torch.zeros(int(drawn.sum()))]),
        )[0]
    assert model(batch)["uic"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_pairs_have_a_projection_of_their_own_or_share_that_of_the_contrast(world: World) -> None:
    own, shared = world.model("itc", "iic"), world.model("itc", "iic", pair_projection="shared")
    assert "pair_proj.weight" in own.state_dict()
    assert "pair_proj.weight" not in shared.state_dict()
    for model, used in ((own, "pair_proj"), (shared, "item_proj")):
        model(pair_batch(world, ITEM_ITEM))["iic"].backward()
        heads = {name for name in ("item_proj", "pair_proj") if hasattr(model, name)}
        assert {name for name in heads if getattr(model, name).weight.grad is not None} == {used}
    assert "item_proj.weight" not in world.model("iic").state_dict()


def test_grounding_is_the_same_alone_and_beside_the_text_losses(world: World) -> None:
    batch = text_batch(world, [1, 5, 8])
    alone, beside = world.model("vg"), world.model("vg", "itg")
    assert alone(batch)["vg"].item() == pytest.approx(beside(batch)["vg"].item(), abs=1e-5)
    expected = L.vocabulary_grounding_loss(
        alone.adapter({name: value[batch.items] for name, value in world.items.items()}),
        world.llm, batch.bag_items, batch.bag_tokens, 10.0,
    )  # fmt: skip
    assert alone(batch)["vg"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_one_query_pass_over_distinct_items(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = world.model("itc", "itg", "vg", "iic"), []
    inner = model.adapter.qformer.forward
    monkeypatch.setattr(
        model.adapter.qformer, "forward", lambda s, m=None: rows.append(len(s["semantic"])) or inner(s, m)
    )
    model(text_batch(world, [3, 3, 4, 3]))
    batch = pair_batch(world, ITEM_ITEM)
    model(batch)
    assert rows == [2, len(set(batch.left.tolist()) | set(batch.right.tolist()))]


def test_every_weight_gets_a_gradient(world: World) -> None:
    model = world.model(*ALL)
    batches = [text_batch(world, [0, 1, 2, 3]), pair_batch(world, ITEM_ITEM), pair_batch(world, USER_ITEM)]
    torch.stack([model.total(model(batch)) for batch in batches]).sum().backward()
    # positions beyond the longest text and words of no text have gradient zero, not none
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_source_dropout_hides_the_semantic_source_in_training_only(world: World) -> None:
    model = world.model("vg", source_dropout=0.999999)
    batch = text_batch(world, [0, 1, 2])
    hidden_only = model(batch)["vg"].item()
    other = {**world.items, "semantic": torch.zeros_like(world.items["semantic"])}
    model.items = VectorTable(other)
    assert model(batch)["vg"].item() == pytest.approx(hidden_only, abs=1e-6)
    zeroed = model.eval()(batch)["vg"].item()
    model.items = VectorTable(world.items)
    assert abs(model(batch)["vg"].item() - zeroed) > 1e-4


def mlp(world: World) -> Adapter:
    torch.manual_seed(0)
    dims = {name: value.shape[1] for name, value in world.items.items()}
    config = {"kind": "mlp", "source_dims": dims, "output_dim": WIDTH, "num_queries": 3, "hidden_width": 24}
    return build_adapter(config)


def test_an_mlp_is_grounded_alone(world: World) -> None:
    model = world.grounded(mlp(world), vg_scale=10.0)
    batch = PairBatches({ITEM_TEXT: world.texts}, {ITEM_TEXT: 1}, {ITEM_TEXT: 16}, 0, world.vocabulary)[0]
    assert isinstance(batch, ItemTextBatch)
    expected = L.vocabulary_grounding_loss(
        model.adapter({name: value[batch.items] for name, value in world.items.items()}),
        world.llm, batch.bag_items, batch.bag_tokens, 10.0,
    )  # fmt: skip
    before = model(batch)["vg"].item()
    assert before == pytest.approx(expected.item(), abs=1e-4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.total(model(batch)).backward()
        optimizer.step()
    assert model(batch)["vg"].item() < 0.7 * before
    assert bag_retrieval(model, world.texts, world.vocabulary)["r@1"] > 0.9
    fresh = mlp(world)
    fresh.load_state_dict(model.adapter_state())
    assert torch.equal(fresh(world.items), model.adapter(world.items))


def test_an_adapter_without_queries_has_no_other_loss(world: World) -> None:
    for losses in (("itc",), ("iic",), ("vg", "itg")):
        with pytest.raises(ValueError, match="kind mlp has no queries"):
            PretrainingModel(
                mlp(world), None, world.items, PretrainingSettings(losses=losses), llm_embeddings=world.llm
            )


def test_source_dropout_acts_on_an_mlp_and_hides_the_share_asked_for(world: World) -> None:
    model = world.grounded(mlp(world), source_dropout=0.5)
    shown: list[torch.Tensor] = []
    model.adapter.register_forward_pre_hook(lambda _, arguments: shown.append(arguments[1]))
    batch = text_batch(world, list(range(16)))
    torch.manual_seed(0)
    losses = {model(batch)["vg"].item() for _ in range(20)}
    masks = torch.cat(shown)
    assert len(losses) > 10
    assert masks[:, 0].all()  # behavioral is never hidden
    assert masks[:, 1].double().mean().item() == pytest.approx(0.5, abs=0.1)
    model.eval()
    assert model(batch)["vg"].item() == model(batch)["vg"].item()
    assert shown[-1] is None


@pytest.mark.parametrize("losses", [("itc", "itm", "itg", "vg"), ("iic",), ("uic",)])
def test_every_loss_sees_the_dropped_source(world: World, losses: tuple[str, ...]) -> None:
    batch = {"iic": pair_batch(world, ITEM_ITEM), "uic": pair_batch(world, USER_ITEM)}.get(
        losses[0], text_batch(world, [0, 1, 2, 3])
    )
    found = []
    for share in (0.0, 0.999999):
        model = world.model(*losses, source_dropout=share)
        for scale in (1.0, 3.0):
            model.items = VectorTable({**world.items, "semantic": scale * world.items["semantic"]})
            model.users = VectorTable({**world.users, "semantic": scale * world.users["semantic"]})
            torch.manual_seed(0)
            found.append({name: value.item() for name, value in model(batch).items() if name in losses})
    assert all(found[0][name] != found[1][name] for name in losses)
    assert found[2] == found[3]


def test_temperature_is_clamped(world: World) -> None:
    model = world.model("itc")
    with torch.no_grad():
        model.temperature.fill_(1e-6)
    terms = model(text_batch(world, [0, 1]))
    assert terms["temperature"].item() == pytest.approx(0.01)
    assert torch.isfinite(terms["itc"])


def test_vectors_and_llm_rows_stay_out_of_checkpoints(world: World) -> None:
    model = world.model(*ALL)
    names = set(model.state_dict())
    assert not [name for name in names if name.startswith(("items.", "users.", "llm_", "token_weights"))]
    fresh = world.model("vg")
    fresh.adapter.load_state_dict(model.adapter_state())
    assert set(model.adapter_state()) == set(model.adapter.state_dict())
    assert not any(value.requires_grad for value in model.adapter_state().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"losses": ("itm",)}, "add itc"),
        ({"losses": ()}, "choose one or more"),
        ({"losses": ("itc", "clip")}, "choose one or more"),
        ({"pair_mode": "triplet"}, "margin_all"),
        ({"pair_projection": "both"}, "own, shared"),
        ({"loss_weights": {"ict": 1.0}}, "ict"),
        ({"source_dropout": 1.0}, "less than 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainingSettings(**settings)


def test_missing_parts_are_named(world: World) -> None:
    adapter = world.model("vg").adapter
    for losses, extra, message in (
        (("itc",), {}, "text branch"),
        (("uic",), {}, "user vectors"),
        (("vg",), {}, r"LLM embedding rows \[V', 12\], got None"),
        (("vg",), {"llm_embeddings": torch.zeros(4, 11)}, r"got \[4, 11\]"),
    ):
        with pytest.raises(ValueError, match=message):
            PretrainingModel(adapter, None, world.items, PretrainingSettings(losses=losses), **extra)
    with pytest.raises(ValueError, match="semantic"):
        PretrainingModel(
            adapter, None, {**world.items, "semantic": torch.zeros(16, 3)}, PretrainingSettings(losses=("iic",))
        )
    single = type(adapter)({"semantic": 7}, 12, hidden_size=8, num_heads=2, ffn_size=8)
    with pytest.raises(ValueError, match="one of several sources"):
        PretrainingModel(single, None, world.items, PretrainingSettings(losses=("iic",), source_dropout=0.5))


def test_recall_and_chance_by_hand() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    positives = torch.tensor([[True, False, False], [False, True, True], [False, False, True]])
    result = recall_at(scores, positives, (1, 2, 5))
    # ties are ranked last: row 2 has two columns ahead
    assert [result[f"r@{k}"] for k in (1, 2, 5)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    # rows with 1, 2, 1 positives of 3: 1/3, 2/3, 1/3 at k = 1; 2/3, 1, 2/3 at k = 2
    assert [result[f"chance@{k}"] for k in (1, 2, 5)] == pytest.approx([4 / 9, 7 / 9, 1.0])


def test_retrieval_counts_equal_texts_as_hits_and_restores_the_mode(world: World) -> None:
    model = world.model("itc", "vg")
    same = replace(world.texts, text_ids=np.zeros_like(world.texts.text_ids))
    assert retrieval(model, same, batch_size=5)["r@1"] == 1.0
    assert model.training
    whole, parts = retrieval(model, world.texts), retrieval(model, world.texts, batch_size=5)
    assert whole == pytest.approx(parts)
    assert whole["chance@1"] == pytest.approx(1 / 16)
    assert bag_retrieval(model, world.texts, world.vocabulary) == pytest.approx(
        bag_retrieval(model, world.texts, world.vocabulary, batch_size=3)
    )
    assert bag_retrieval(model, world.texts, np.array([999])) == {}


def test_sixteen_items_are_learned(world: World) -> None:
    model = world.model("itc", "itm", "itg", "iic", "vg", temperature=0.1)
    sets = {ITEM_TEXT: world.texts, ITEM_ITEM: world.item_item}
    batches = PairBatches(
        sets, {ITEM_TEXT: 0.9, ITEM_ITEM: 0.1}, {ITEM_TEXT: 16, ITEM_ITEM: 8}, seed=0, vocabulary=world.vocabulary
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    torch.manual_seed(0)
    terms: dict[str, list[float]] = {}
    for step in range(200):
        found = model(batches[step])
        optimizer.zero_grad()
        model.total(found).backward()
        optimizer.step()
        for name, value in found.items():
            terms.setdefault(name, []).append(value.item())
    for name in ("itc", "itg_nll", "iic", "vg"):
        assert np.mean(terms[name][-5:]) < 0.7 * np.mean(terms[name][:5]), name
    assert np.mean(terms["itm"][-20:]) < 0.2
    assert retrieval(model, world.texts)["r@1"] > 0.9
    assert bag_retrieval(model, world.texts, world.vocabulary)["r@1"] > 0.9


def test_evaluation_batches_run_through_the_model(world: World) -> None:
    model = world.model(*ALL).eval()
    sets = {ITEM_TEXT: world.texts, ITEM_ITEM: world.item_item, USER_ITEM: world.user_item}
    batches = EvaluationBatches(sets, {ITEM_TEXT: 5, ITEM_ITEM: 9, USER_ITEM: 9}, 0, world.vocabulary)
    for batch in batches:
        assert all(torch.isfinite(value) for value in model(batch).values())
