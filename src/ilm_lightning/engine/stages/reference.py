"""References: what a prompt says of its items in words, beside or instead of soft tokens."""

from typing import Any

import polars as pl


def prompts_with(frame: pl.DataFrame, catalog: Any, reference: str | None) -> pl.DataFrame:
    """Add text about the items to prompts.

    Args:
        frame: examples.
        catalog: the items.
        reference: ``title``, ``facts`` or None for none.

    Returns:
        The examples with longer prompts.
    """
    if reference is None:
        return frame
    from ilm_lightning.tasks.elm import CatalogContext, facts_prompt, title_prompt

    rows = {i for items in frame["items"].to_list() for i in items}
    if reference == "facts":
        # the teacher's own measure of audiences and casts, or its targets would name what the prompt does not
        known = CatalogContext.from_items(catalog)
        texts = {i: facts_prompt(catalog[i], known) for i in rows}
    else:
        texts = {i: title_prompt(catalog[i]) for i in rows}
    prompts = [
        prompt + " " + " ".join(texts[i] for i in items)
        for prompt, items in zip(frame["prompt"].to_list(), frame["items"].to_list(), strict=True)
    ]
    return frame.with_columns(pl.Series("prompt", prompts))
