"""How lists of genome tags are scored beside the genres that a vector holds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from ilm_lightning.data.genome import GenomeScores
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.stages.figure1_scores import Scoring


def test_a_list_is_scored_as_if_it_left_out_the_movies_own_genres(tmp_path: Path) -> None:
    genome = GenomeScores(
        pl.DataFrame({"item": [0], "tag": [0], "relevance": [0.9]}), ["heist", "crime", "sci fi", "drama"]
    )
    genome.write(tmp_path / "genome.parquet")
    catalog = ItemCatalog.from_rows([{"item_id": "6", "title": "Heat", "genres": ["Crime", "Sci-Fi"]}])
    inputs: Any = SimpleNamespace(prepared=Artifact("prepare", "key", tmp_path, {"report": {}}))
    scoring = Scoring(
        inputs,
        Interactions(pl.DataFrame({"user": [0], "item": [0], "rating": [4.0], "timestamp": [1]}), ["u"], 1),
        catalog,
        pl.DataFrame({"task": ["genome_tags"], "target": ["heist, drama"]}),
        None,  # type: ignore[arg-type]
        50,
    )
    texts = {"own": "crime, sci fi, heist", "shuffled": "drama, heist"}
    rows = [
        {"example_id": "e", "task": "genome_tags", "condition": name, "generated": text, "target": "heist", "movie": 0}
        for name, text in texts.items()
    ]
    # other conditions need not say what they are about
    table = pl.DataFrame(rows).with_columns(about=pl.Series([0, None]))
    measures = scoring.measure(table)["genome_tags"]["measures"]
    assert measures["precision"] == pytest.approx({"own": 1.0, "shuffled": 0.5, "popular": 0.5})
    assert measures["recall"] == {"own": 1.0, "shuffled": 1.0, "popular": 1.0}
