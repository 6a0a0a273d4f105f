"""Ask a trained run about items: ``python -m ilm_lightning.chat run=outputs/…`` with mentions like ``[Heat (1995)]``.

The model sees the item's vector in the place of each mention, never its title.
"""

import contextlib
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ilm_lightning.engine.loaded import (
    LoadedRun,
    RunError,
    find_run,
    open_run,
    parse_arguments,
    quiet,
    task_prompts,
    told_words,
    whole_number,
)
from ilm_lightning.engine.new_items import FACTS, notes_on, read_new_items, vectors_of

if TYPE_CHECKING:
    from ilm_lightning.data.tables import ItemCatalog

MENTION = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])+)\]")
"""An item in square brackets; its title may hold brackets of its own, as ``[[REC] (2007)]``."""
NEW_ITEM = re.compile(r"new\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
LONGEST_TITLE = 12
"""Words of a title that is looked for in a question without brackets."""
ENDINGS = ("", "quit", "exit")
KEYS = ("run", "ask", "max_new_tokens")
USAGE = """usage: python -m ilm_lightning.chat [run=FOLDER] [ask="Summarize [Heat (1995)]."] [max_new_tokens=96]

Each item stands in square brackets; the model sees its vector only. A new item is described in the brackets:
[new: Heat 2 (2025); genres=Crime, Thriller]. Without ask=, questions are read line by line; ? shows what to ask,
quit or an empty line ends.
Without run= the run that was finished last is taken."""
HELP = """An item in square brackets: [Heat (1995)], [Heat], an id, or a new one: [new: Heat 2; genres=Crime, Thriller].
find WORDS      titles that hold these words
words [ITEM]    the vocabulary's words nearest to the item's soft tokens
?               this text; quit, exit or an empty line ends
The run was trained on questions like these:"""


class ChatError(RunError):
    """A question that cannot be answered, and what to do."""


@dataclass
class Chat:
    """A loaded run.

    Attributes:
        run: the run; its model is loaded.
        collator: the vectors of its items, and of new items after them.
        max_new_tokens: the longest answer.
        labels: of the new items, by row.
        notes: what the vectors of the last question's new items do not hold.
    """

    run: LoadedRun
    collator: Any
    max_new_tokens: int = 96
    labels: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> Any:
        """The item-language model."""
        return self.run.model

    @property
    def tokenizer(self) -> Any:
        """Its prompt tokenizer."""
        return self.run.tokenizer

    @property
    def catalog(self) -> "ItemCatalog":
        """The run's items."""
        return self.run.catalog

    def prompt(self, question: str) -> tuple[str, list[list[int]]]:
        """Replace mentions by slots.

        Args:
            question: text with at least one ``[title (year)]`` or ``[new: title; genres=...]``.

        Returns:
            The prompt with ``{item}`` slots, and one row of the vectors per slot.

        Raises:
            ChatError: no mention.
            UnknownItemError: a title that the catalogue does not hold; the nearest ones are named.
        """
        found = find_mentions(question, self.catalog)
        self.notes = []
        rows = [self._add(row) if isinstance(row, str) else row for row in found]
        prompt = MENTION.sub("{item}", question.replace("{item}", "item").replace("{user}", "user"))
        return prompt + self.run.prompt_suffix([self.label(row) for row in rows]), [[row] for row in rows]

    def answer(self, question: str) -> str:
        """Answer one question greedily."""
        prompt, slots = self.prompt(question)
        return self.run.write([prompt], [slots], self.collator, self.max_new_tokens).texts[0]

    def label(self, row: int) -> str:
        """Title and year of an item of the run or a new one."""
        return self.labels.get(row) or self.catalog[row].label

    def about(self, question: str) -> str:
        """Say which items the mentions stand for, and whether training has seen their texts."""
        told = []
        for row in find_mentions(question, self.catalog):
            if isinstance(row, int):
                part = self.run.split[row] if self.run.split else ""
                seen = {"train": ", in training", "": ""}.get(part, ", held out of training")
                told.append(f"[{self.label(row)}]{seen}")
        return "; ".join(told)

    def words(self, question: str) -> list[str]:
        """The vocabulary's words nearest to the soft tokens of the items that are mentioned, one line an item."""
        import torch

        from ilm_lightning.evaluation.words import nearest_words
        from ilm_lightning.lm.backbone import causal_lm

        _, slots = self.prompt(question)
        with torch.inference_mode():
            soft = self.model.soft_tokens(self.collator.slot_sources([tuple(slot) for slot in slots])).float().cpu()
        embedding = causal_lm(self.model.lm).get_input_embeddings().weight.detach().float()
        lines = []
        for slot, tokens in zip(slots, soft, strict=True):
            words = nearest_words(tokens, embedding, self.tokenizer.tokenizer, 3)
            lines.append(f"{self.label(slot[0])}: {told_words(words)}")
        return lines

    def _add(self, description: str) -> int:
        """Append a new item's vectors; returns its row."""
        import torch

        from ilm_lightning.lm import Collator

        items = read_new_items(self.run, parse_new(description))
        vectors = vectors_of(self.run, items)
        new = vectors.tensors()
        row = int(self.collator.n_items)
        old = self.collator.vectors
        self.collator = Collator({name: torch.cat([rows, new[name]]) for name, rows in old.items()})
        self.labels[row] = items.catalog[0].label
        self.notes += [f"[{self.labels[row]}] {note}" for note in notes_on(items, vectors, 0)]
        return row


def parse_new(description: str) -> dict[str, str]:
    """Take the description of a new item apart.

    Args:
        description: ``Heat 2 (2025); genres=Crime, Thriller; users=1, 7``; a part without ``=`` is the title.

    Returns:
        Facts by name, as the embed command takes them.

    Raises:
        ChatError: an unknown fact.

    >>> parse_new("Heat 2 (2025); genres=Crime, Thriller")
    {'title': 'Heat 2 (2025)', 'genres': 'Crime, Thriller'}
    """
    facts: dict[str, str] = {}
    for part in description.split(";"):
        name, sign, value = (text.strip() for text in part.partition("="))
        if not sign:
            name, value = "title", name
        if name not in (*FACTS, "users"):
            raise ChatError(f"of a new item one can say {', '.join(FACTS)} and users; not {name!r}")
        if value:
            facts[name] = value
    return facts


def find_mentions(question: str, catalog: "ItemCatalog") -> list[int | str]:
    """Find the items in square brackets.

    Args:
        question: the text.
        catalog: the run's items.

    Returns:
        Rows of the catalogue, and descriptions of new items.

    Raises:
        ChatError: there is none, or a bracket without partner; a title that stands in the text without brackets is
            pointed out.
        UnknownItemError: a title that the catalogue does not hold; the nearest ones are named.
    """
    mentions = MENTION.findall(question)
    rest = MENTION.sub("", question)
    if rest.count("[") != rest.count("]"):
        kind = "is not closed" if rest.count("[") > rest.count("]") else "was not opened"
        raise ChatError(f"a square bracket {kind} in {question!r}; an item stands between two, as [Heat (1995)]")
    if not mentions:
        title = bare_title(question, catalog)
        if title:
            hint = re.sub(re.escape(title), f"[{title}]", question, count=1, flags=re.IGNORECASE)
            raise ChatError(f"name the item in square brackets: {hint}")
        raise ChatError("name an item in square brackets, for instance: Summarize the movie [Heat (1995)].")
    new = [NEW_ITEM.fullmatch(mention.strip()) for mention in mentions]
    return [match[1] if match else catalog.find(text) for match, text in zip(new, mentions, strict=True)]


def bare_title(question: str, catalog: "ItemCatalog") -> str | None:
    """The longest run of capitalised words that is the title of an item, as it stands in the question."""
    words = list(re.finditer(r"\S+", question))
    for length in range(min(LONGEST_TITLE, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            text = question[words[start].start() : words[start + length - 1].end()].strip(".,;:!?\"'")
            if not text[:1].isupper() or (start == 0 and length < len(words)):
                continue
            if catalog.lookup(text) is not None:
                return text
    return None


def open_chat(run: str | Path | None, max_new_tokens: int = 96, ask: str | None = None) -> Chat:
    """Load a finished run.

    Args:
        run: the run's folder or name; None takes the run that was finished last.
        max_new_tokens: the longest answer.
        ask: the first question; its titles are looked up before the language model is loaded.

    Returns:
        The chat.

    Raises:
        ValueError: the folder holds no finished run, or the question names no item, or an unknown one.
    """
    found = open_run(find_run(None if run is None else str(run)))
    if ask is not None:
        for mention in find_mentions(ask, found.catalog):
            if isinstance(mention, str):
                read_new_items(found, parse_new(mention))
    found.load_model()
    from ilm_lightning.lm import Collator

    return Chat(found, Collator(found.vectors.tensors()), max_new_tokens)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    quiet()
    console = Console(highlight=False, markup=False)
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in ("-h", "--help", "help"):
        console.print(USAGE, soft_wrap=True)
        return 0
    try:
        options = parse_arguments(given, KEYS, USAGE)
        chat = open_chat(options.get("run"), whole_number(options, "max_new_tokens", 96), options.get("ask"))
        if "ask" in options:
            answer = chat.answer(options["ask"])
            for note in chat.notes:
                Console(stderr=True, highlight=False, markup=False).print(f"note: {note}", soft_wrap=True)
            console.print(answer, soft_wrap=True)
            return 0
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)
        return 1
    # a pipe may hold any bytes
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    with contextlib.suppress(KeyboardInterrupt):
        interactive(chat, console)
    return 0


def interactive(chat: Chat, console: Console) -> None:
    """Answer questions line by line until the input ends."""
    console.print(
        f"{chat.run.folder}: {len(chat.catalog)} items. Ask about items in square brackets; ? shows how, quit ends."
    )
    while True:
        try:
            question = console.input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if question.lower() in ENDINGS:
            return
        try:
            for line in reply(chat, question):
                console.print(line, soft_wrap=True)
        except ValueError as error:
            console.print(f"error: {error}", soft_wrap=True)


def reply(chat: Chat, question: str) -> list[str]:
    """One line of the conversation.

    Args:
        chat: the chat.
        question: what was typed.

    Returns:
        Lines to print.
    """
    command, _, rest = question.partition(" ")
    if question in ("?", "help"):
        first, second = chat.catalog[0].label, chat.catalog[1].label
        prompts = task_prompts(chat.run).values()
        asked = (text.replace("{item}", f"[{first}]", 1).replace("{item}", f"[{second}]") for text in prompts)
        return [HELP, *(f"  {question}" for question in asked)]
    if command == "find" and rest and "[" not in rest:
        return chat.catalog.search(rest) or [f"no title holds {rest!r}"]
    if command == "words" and "[" in rest:
        words = chat.words(rest)
        return [*(f"  note: {note}" for note in chat.notes), *words]
    about, answer = chat.about(question), chat.answer(question)
    return [*([f"  {about}"] if about else []), *(f"  note: {note}" for note in chat.notes), answer]


if __name__ == "__main__":
    sys.exit(main())
