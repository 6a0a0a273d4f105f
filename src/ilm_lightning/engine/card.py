"""The model card that lies beside the exported weights."""

from typing import Any

from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.tune import Inputs


def model_card(context: Context, inputs: Inputs, metrics: dict[str, Any]) -> str:
    """Write what the model is, how it was made, what it scored, and the terms of its data.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        metrics: the run's metrics.

    Returns:
        Markdown with the front matter that model hubs read.
    """
    config, protocol = context.config, metrics["protocol"]
    lm = context.asset(config.lm.name)
    scores = metrics["all"]["sc"]
    version = metrics["run"]["versions"]["ilm_lightning"]
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in scores.items())
    return f"""---
library_name: ilm_lightning
base_model: {lm.name}
tags: [item-language-model, recommender-systems, soft-tokens]
---
# {config.name}

Item vectors ({config.encoder.name}) through a {config.adapter.kind} adapter as {config.adapter.num_queries} soft tokens
of {lm.name}; language model: {config.tuning.mode}. Made by ilm_lightning {version}.

```python
from ilm_lightning.lm import ItemLanguageModel

model = ItemLanguageModel.from_pretrained("model", lm="FOLDER OF THE LANGUAGE MODEL")
```

## Scores

Semantic consistency (cosine of {metrics["scorer"]} embeddings times 100), mean of {metrics["n_tasks"]} tasks,
{metrics["n_movies"]} {protocol["split"]} movies, targets by the `{protocol["teacher"]}` teacher,
{protocol["decoding"]}.

| condition | SC |
|---|---|
{rows}

## Data and terms

{config.data.name}. {inputs.prepared.report.get("terms", "")}
Language model: {lm.licence.name if hasattr(lm.licence, "name") else lm.licence}.

## Limits

The targets are sentences made from facts by rule, not people's writing. Texts can name wrong facts: see slot accuracy
in `metrics.json`. The model knows an item only from its vector.
"""
