"""The stages from raw files to vectors and neighbours, on a made-up MovieLens 25M."""

from pathlib import Path

import numpy as np
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, Store
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import examples, prepare, read_examples, read_genome, read_tables
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.pretrain import pair_sets
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.pretraining.pairs import EdgePairs


def context(root: Path, *overrides: str) -> Context:
    config = composed(*overrides)
    validate(config)
    return Context(config, Store(root / "artifacts"), root / "run")


@pytest.fixture(scope="module")
def settings(generated_25m: Path, tiny_sentence_model: Path) -> list[str]:
    return [
        "data=ml_25m",
        f"data.path={generated_25m}",
        "data.film_facts=false",
        "data.tags_per_item=2",
        "data.genome_tags_per_item=2",
        f"encoder.text_model={tiny_sentence_model}",
        "encoder.als.factors=8",
        "encoder.als.iterations=3",
        "trainer.threads=1",
    ]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    made = context(tmp_path_factory.mktemp("whole"), *settings)
    return made, prepare(made)


def test_tables_of_the_prepared_set(whole: tuple[Context, Artifact]) -> None:
    prepared = whole[1]
    interactions, catalog, split = read_tables(prepared)
    genome = read_genome(prepared)
    assert prepared.report["data"] == "ml-25m (generated)"
    assert (interactions.n_items, len(split)) == (len(catalog), len(catalog))
    assert interactions.matrix().nnz == len(interactions)
    assert genome.items.max() < len(catalog)
    assert genome.matrix().shape == (prepared.report["items_with_genome_tags"], 1128)
    assert prepare(whole[0]).key == prepared.key


def test_vectors_and_neighbours_of_the_prepared_set(whole: tuple[Context, Artifact]) -> None:
    made, prepared = whole
    embedded = embed(made, prepared)
    vectors = ItemVectors.load(embedded.path, {"behavioral": 8, "semantic": 16})
    interactions, catalog, _ = read_tables(prepared)
    assert vectors.n_items == len(catalog)
    assert len(vectors.user_sources["behavioral"]) == interactions.n_users
    assert vectors.has_text.all()
    found = read_examples(examples(made, prepared, embedded))
    pairs = found.filter(found["task"] == "why_like_nn")
    split = dict(zip(found["items"].list.first(), found["split"], strict=True))
    assert pairs.height > 100
    assert all(split[one] == split[two] for one, two in pairs["items"])


@pytest.mark.slow
def test_the_control_of_phase_1_reads_other_pairs_of_the_same_items(
    whole: tuple[Context, Artifact], settings: list[str], tmp_path: Path
) -> None:
    adapter = ["adapter=qformer", "adapter.init=pretrained", "pretraining.losses=[iic,uic]"]
    true = pair_sets(context(tmp_path, *settings, *adapter), whole[1])
    control = pair_sets(context(tmp_path, *settings, *adapter, "pretraining.shuffled_pairs=true"), whole[1])
    for kind in ("item_item", "user_item"):
        (before, after) = (_joined([half[kind] for half in halves]) for halves in (true, control))
        assert before != after
        lost = len(before) - len(after)
        # of a set as dense as this one not all can be paired anew
        assert 0 <= lost < 0.2 * len(before)
        for side in (0, 1):
            met = [np.bincount([pair[side] for pair in pairs], minlength=10_000) for pairs in (before, after)]
            assert ((met[0] - met[1]) >= 0).all()
            assert (met[0] - met[1]).sum() == lost


def _joined(halves: list[object]) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for half in halves:
        assert isinstance(half, EdgePairs)
        pairs |= set(zip(half.left.tolist(), half.right.tolist(), strict=True))
    return pairs


def test_without_the_genome_in_texts(whole: tuple[Context, Artifact], settings: list[str], tmp_path: Path) -> None:
    hidden = prepare(context(tmp_path, *settings, "data.genome_in_text=false"))
    assert hidden.key != whole[1].key
    genome, (_, catalog, split) = read_genome(hidden), read_tables(hidden)
    # the scores and the split are the same, the texts tell nothing of the genome
    assert np.array_equal(genome.matrix(), read_genome(whole[1]).matrix())
    assert split.tolist() == read_tables(whole[1])[2].tolist()
    words = {tag for item in catalog for tag in (*item.tags, *item.genome_tags)}
    assert words
    assert words.isdisjoint(genome.tags)


def test_data_without_a_genome_say_so(own_data: tuple[Path, Path], tmp_path: Path) -> None:
    events, items = own_data
    made = prepare(
        context(tmp_path, "data=custom", f"data.interactions={events}", f"data.items={items}", "data.film_facts=false")
    )
    with pytest.raises(DataError, match=r"events has no tag genome; tasks on genome tags need data=ml_25m"):
        read_genome(made)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.tags_per_item=-1", r"data\.tags_per_item=-1 must be at least 0"),
        ("data.genome_tags_per_item=-2", r"data\.genome_tags_per_item=-2"),
        ("data.genome_min_relevance=2", r"data\.genome_min_relevance=2.0 must lie in \[0, 1\]"),
    ],
)
def test_impossible_numbers_of_tags(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        context(tmp_path, override)
