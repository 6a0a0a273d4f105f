"""Ask a trained run about items: ``python -m ilm_lightning.chat run=outputs/…`` with mentions like ``[Heat (1995)]``.

The model sees the item's vector in the place of each mention, never its title.
"""

import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from ilm_lightning.data.tables import ItemCatalog

log = logging.getLogger("ilm_lightning")
MENTION = re.compile(r"\[([^\[\]]+)\]")
USAGE = """usage: python -m ilm_lightning.chat run=FOLDER [ask="Summarize the movie [Heat (1995)]."] [max_new_tokens=96]

Without ask=, questions are read line by line. Each item stands in square brackets; the model sees its vector only."""


class ChatError(ValueError):
    """A question or a run folder that cannot be used, and what to do."""


@dataclass
class Chat:
    """A loaded run.

    Attributes:
        model: the item-language model.
        tokenizer: its prompt tokenizer.
        collator: the item vectors.
        catalog: the items.
        max_new_tokens: the longest answer.
    """

    model: Any
    tokenizer: Any
    collator: Any
    catalog: "ItemCatalog"
    max_new_tokens: int = 96

    def prompt(self, question: str) -> tuple[str, list[list[int]]]:
        """Replace mentions by slots.

        Args:
            question: text with at least one ``[title (year)]``.

        Returns:
            The prompt with ``{item}`` slots, and one catalogue row per slot.

        Raises:
            ChatError: no mention.
            UnknownItemError: a title that the catalogue does not hold; the nearest ones are named.
        """
        rows = [[row] for row in find_mentions(question, self.catalog)]
        return MENTION.sub("{item}", question.replace("{item}", "item").replace("{user}", "user")), rows

    def answer(self, question: str) -> str:
        """Answer one question greedily."""
        from ilm_lightning.lm import generate

        prompt, slots = self.prompt(question)
        examples = self.tokenizer.encode([{"example_id": "question", "prompt": prompt, "slots": slots}])
        made = generate(self.model, examples, self.collator, self.tokenizer, self.max_new_tokens, 1, "answering")
        return made.texts[0]


def find_mentions(question: str, catalog: "ItemCatalog") -> list[int]:
    """Catalogue rows of the items in square brackets.

    Raises:
        ChatError: there is none.
        UnknownItemError: a title that the catalogue does not hold; the nearest ones are named.
    """
    mentions = MENTION.findall(question)
    if not mentions:
        raise ChatError("name an item in square brackets, for instance: Summarize the movie [Heat (1995)].")
    return [catalog.find(mention) for mention in mentions]


def open_chat(run: str | Path, max_new_tokens: int = 96, ask: str | None = None) -> Chat:
    """Load a finished run.

    Args:
        run: the run folder.
        max_new_tokens: the longest answer.
        ask: the first question; its titles are looked up before the language model is loaded.

    Returns:
        The chat.

    Raises:
        ChatError: the folder holds no finished run, or the question names no item.
        UnknownItemError: the question names an item that is not in the catalogue.
    """
    folder = Path(run)
    needed = (folder / "model" / "config.json", folder / "items" / "items.parquet", folder / "config.yaml")
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise ChatError(f"{run} holds no finished run ({missing[0]} is missing); give a folder under outputs/")
    from ilm_lightning.data.tables import ItemCatalog

    catalog = ItemCatalog.read(folder / "items" / "items.parquet")
    if ask is not None:
        find_mentions(ask, catalog)
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer

    from ilm_lightning.assets import resolve
    from ilm_lightning.embeddings.vectors import ItemVectors
    from ilm_lightning.engine.config import as_config
    from ilm_lightning.lm import Collator, ItemLanguageModel, PromptTokenizer, load_backbone

    config = as_config(OmegaConf.load(folder / "config.yaml"))
    asset = resolve(config.lm.name, overrides=config.assets)
    backbone = load_backbone(asset.path, "frozen", "auto", name=asset.name)
    model = ItemLanguageModel.from_pretrained(folder / "model", backbone).merge_lora()
    tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(asset.path)), model.num_queries)
    vectors = ItemVectors.load(folder / "items", expect_dims=model.adapter.source_dims)
    if vectors.n_items != len(catalog):
        raise ChatError(f"{run}: {vectors.n_items} vectors for {len(catalog)} items; run the training command again")
    return Chat(model, tokenizer, Collator(vectors.tensors()), catalog, max_new_tokens)


def parse(arguments: list[str]) -> dict[str, str]:
    """Read ``key=value`` arguments.

    Raises:
        ChatError: an unknown key, or ``run`` missing.
    """
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = sorted(set(options) - {"run", "ask", "max_new_tokens"}) + [a for a in arguments if "=" not in a]
    if unknown or "run" not in options:
        raise ChatError((f"unknown argument {unknown[0]}\n" if unknown else "which run? ") + USAGE)
    if not options.get("max_new_tokens", "1").isdigit():
        raise ChatError(f"max_new_tokens={options['max_new_tokens']} is no number")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    console = Console(highlight=False, markup=False)
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        chat = open_chat(options["run"], int(options.get("max_new_tokens", 96)), options.get("ask"))
        if "ask" in options:
            console.print(chat.answer(options["ask"]))
            return 0
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True, highlight=False, markup=False).print(f"error: {error}")
        return 1
    interactive(chat, console)
    return 0


def interactive(chat: Chat, console: Console) -> None:
    """Answer questions line by line until the input ends."""
    console.print("Ask about items in square brackets, e.g. Summarize the movie [Heat (1995)]. An empty line ends.")
    while True:
        try:
            question = console.input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not question:
            return
        try:
            console.print(chat.answer(question))
        except ValueError as error:
            console.print(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
