"""The model card that lies beside the exported weights."""

import json
from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.tune import Inputs

if TYPE_CHECKING:
    from ilm_lightning.assets import ResolvedAsset
    from ilm_lightning.assets.licences import Licence

FREE = {"CC0-1.0": "cc0-1.0", "Apache-2.0": "apache-2.0"}
"""Licences that model hubs know by an identifier of their own."""


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
    scores = metrics["all"].get("sc", {})
    version = metrics["run"]["versions"]["ilm_lightning"]
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in scores.items())
    for task, found in metrics.get("figure1", {}).items():
        for measure, by in found["measures"].items():
            rows += "".join(f"\n| {task}, {measure}: {name} | {value:.3f} |" for name, value in by.items())
    by_rule = config.teacher.kind == "facts"
    targets = "sentences made from facts by rule" if by_rule else "a language model's answers"
    return f"""---
{front_matter(config, lm)}
---
# {config.name}

Item vectors ({config.encoder.name}) through a {config.adapter.kind} adapter as {config.adapter.num_queries} soft tokens
of {lm.name}; language model: {config.tuning.mode}. Made by ilm_lightning {version}.

```python
from ilm_lightning.lm import ItemLanguageModel

model = ItemLanguageModel.from_pretrained("model")  # or lm=FOLDER, where {lm.name} lies
```

## Scores

Semantic consistency (cosine of {metrics["scorer"]} embeddings times 100), mean of {metrics["n_tasks"]} tasks,
{metrics["n_movies"]} {protocol["split"]} movies, targets by the `{protocol["teacher"]}` teacher,
{protocol["decoding"]}.

| condition | SC |
|---|---|
{rows}

## Data and terms

{_terms(context, inputs, lm)}

## Limits

The targets are {targets}, not people's writing. Texts can name wrong facts: see slot accuracy
in `metrics.json`. The model knows an item only from its vector.
"""


def data_licence(config: Config) -> "Licence":
    """Terms of the interactions and items: what was learned from them goes out under these at most."""
    from ilm_lightning.assets import REGISTRY
    from ilm_lightning.assets.licences import YOURS

    asset = REGISTRY.get(config.data.name) or REGISTRY.get(config.data.kind.replace("_", "-"))
    return YOURS if asset is None or config.data.kind == "custom" else asset.licence


def front_matter(config: Config, lm: "ResolvedAsset") -> str:
    """The lines between the dashes.

    Weights that were trained on restricted data are ``other`` with the data's terms by name and address; on the user's
    own data ``unknown``, which is theirs to fill in.

    Args:
        config: of the run.
        lm: the language model.

    Returns:
        YAML without the dashes.
    """
    licence = data_licence(config)
    entries: dict[str, Any] = {"library_name": "ilm_lightning", "pipeline_tag": "text-generation", "language": "en"}
    if licence.name in FREE:
        entries["license"] = FREE[licence.name]
    elif licence.url:
        name = "".join(c if c.isalnum() else "-" for c in licence.name.lower()).replace("--", "-")
        entries |= {"license": "other", "license_name": name, "license_link": licence.url}
    else:
        entries["license"] = "unknown"
    base = hub_repository(lm)
    if base:
        entries |= {
            "base_model": base,
            "base_model_relation": "finetune" if config.tuning.mode == "full" else "adapter",
        }
    entries["tags"] = ["item-language-model", "recommender-systems", "soft-tokens"]
    # a JSON value is a YAML value
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items())


def hub_repository(lm: "ResolvedAsset") -> str | None:
    """The hub's name of a language model; None for a folder."""
    from ilm_lightning.assets import REGISTRY
    from ilm_lightning.assets.hub import hub_name
    from ilm_lightning.assets.registry import Hub

    if lm.key in REGISTRY:
        return next((source.repo for source in REGISTRY[lm.key].sources if isinstance(source, Hub)), None)
    named = hub_name(lm.key)
    return None if named is None else named[0]


def _terms(context: Context, inputs: Inputs, lm: "ResolvedAsset") -> str:
    config = context.config
    licence = data_licence(config)
    lines = [f"- Data: {config.data.name}. {inputs.prepared.report.get('terms', '')}", f"  {licence.text()}"]
    if config.data.film_facts:
        lines.append(f"- Film facts: {context.asset('film-facts').licence.text()}")
    lines.append(f"- Language model: {lm.name}. {lm.licence.text()}")
    encoder = context.asset(config.encoder.text_model)
    lines.append(f"- Text encoder: {encoder.name}. {encoder.licence.text()}")
    lines.append("- This folder holds no ratings and no texts of the data, but weights that were fitted to them.")
    return "\n".join(lines)
