"""Prompts with ``{item}`` and ``{user}`` slots to token ids, once, before training."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.lm.batch import PLACEHOLDER_ID

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ITEM_SLOT = "{item}"
USER_SLOT = "{user}"
_SLOTS = re.compile(f"{re.escape(ITEM_SLOT)}|{re.escape(USER_SLOT)}")
PROMPT_FIELD = "{prompt}"
PLAIN_TEMPLATE = "{prompt}\n"
_SYSTEM_MARK = "⟦system⟧"


def split_slots(prompt: str) -> list[str]:
    """Split a prompt at its ``{item}`` and ``{user}`` slots.

    >>> split_slots("For {user}: is {item} good?")
    ['For ', ': is ', ' good?']
    """
    return _SLOTS.split(prompt)


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """One example as ids.

    Attributes:
        example_id: the example's name.
        prompt_ids: int32 ``[P]``; soft-token positions hold ``PLACEHOLDER_ID``.
        target_ids: int32 ``[t]``, the end token last; empty if there is no target.
        slots: the rows of each slot, users counted after the items; two rows stand for the vector between two.
        token_weights: float32 ``[t]`` or None for equal weights.
    """

    example_id: str
    prompt_ids: NDArray[np.int32]
    target_ids: NDArray[np.int32]
    slots: tuple[tuple[int, ...], ...]
    token_weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of tokens of prompt and target."""
        return len(self.prompt_ids) + len(self.target_ids)


def chat_template(tokenizer: "PreTrainedTokenizerBase", system: str | None = None) -> str:
    r"""Write the tokenizer's chat template out as text around ``{prompt}``.

    Templates such as SmolLM2's insert a system prompt of their own when none is given; it costs tokens in every
    example and says nothing about items, so it is left out unless ``system`` asks for one.

    Args:
        tokenizer: a Hugging Face tokenizer.
        system: the system message, or None for none.

    Returns:
        Text with one ``{prompt}``; ``"{prompt}\n"`` if the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        return PLAIN_TEMPLATE if system is None else f"{system}\n{PLAIN_TEMPLATE}"
    user = {"role": "user", "content": PROMPT_FIELD}

    def render(messages: list[dict[str, str]], answer: bool = True) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer))

    if system is not None:
        return render([{"role": "system", "content": system}, user])
    mark = {"role": "system", "content": _SYSTEM_MARK}
    try:
        head, whole = render([mark], answer=False), render([mark, user])
    except Exception:  # a template without a system role raises an error of its own kind, and inserts no prompt
        return render([user])
    if not whole.startswith(head) or _SYSTEM_MARK not in head:
        return render([user])
    bos = tokenizer.bos_token or ""
    turn = whole.removeprefix(head)
    # SmolLM2's bos token also opens every turn, so it may be there already
    return bos + turn if head.startswith(bos) and not turn.startswith(bos) else turn


def read_tokenizer(folder: str | Path, num_queries: int) -> "PromptTokenizer":
    """Make the prompt tokenizer of a language model; an encoder's prompts end with the end token, without a chat.

    Args:
        folder: of the language model.
        num_queries: soft tokens per slot.

    Returns:
        The tokenizer.
    """
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    encoder = getattr(AutoConfig.from_pretrained(str(folder)), "is_encoder_decoder", False)
    return PromptTokenizer(tokenizer, num_queries, PROMPT_FIELD + tokenizer.eos_token if encoder else None)


class PromptTokenizer:
    """Turns examples into ids; each distinct piece of text is tokenised once.

    Args:
        tokenizer: a Hugging Face tokenizer with an end token.
        num_queries: soft tokens per slot.
        template: text with one ``{prompt}``; None takes the tokenizer's chat template (see ``chat_template``).
        max_length: the most tokens an example may have, or None.

    Raises:
        ValueError: if the tokenizer has no end token, the template no ``{prompt}``, or ``num_queries`` is below 1.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        num_queries: int,
        template: str | None = None,
        max_length: int | None = None,
    ) -> None:
        if num_queries < 1:
            raise ValueError(f"num_queries is {num_queries}; a slot needs at least 1 soft token")
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end token; set tokenizer.eos_token first")
        self.template = chat_template(tokenizer) if template is None else template
        if self.template.count(PROMPT_FIELD) != 1:
            raise ValueError(f"the prompt template must hold {PROMPT_FIELD} exactly once, got {self.template!r}")
        self.tokenizer = tokenizer
        self.num_queries = num_queries
        self.max_length = max_length
        self.eos_id = int(tokenizer.eos_token_id)
        self._before, _, self._after = self.template.partition(PROMPT_FIELD)
        self._start = self._start_ids()
        self._cache: dict[str, NDArray[np.int32]] = {"": np.empty(0, np.int32)}

    def _start_ids(self) -> NDArray[np.int32]:
        ids = list(self.tokenizer("").input_ids)
        bos = self.tokenizer.bos_token
        wanted = bool(ids) and ids[0] == self.tokenizer.bos_token_id and not self._before.startswith(bos)
        return np.array(ids[:1] if wanted else [], np.int32)

    @property
    def frame(self) -> tuple[str, str]:
        """What stands before and after every prompt."""
        return self._before, self._after

    @property
    def start_ids(self) -> NDArray[np.int32]:
        """The tokenizer's own start token, where it adds one."""
        return self._start

    def pieces(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokenise pieces of prompts, each distinct one once; no special tokens are added."""
        self._learn(texts)
        return [self._cache[text] for text in texts]

    def _learn(self, texts: Iterable[str]) -> None:
        """Tokenise the texts that are new, in one call."""
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            rows = self.tokenizer(new, add_special_tokens=False).input_ids
            self._cache.update((text, np.array(ids, np.int32)) for text, ids in zip(new, rows, strict=True))

    def _pieces(self, prompt: str) -> list[str]:
        return split_slots(self._before + prompt + self._after)

    def prompt_ids(self, prompt: str) -> NDArray[np.int32]:
        """Return the ids of a rendered prompt, each slot as ``num_queries`` placeholders."""
        pieces = self._pieces(prompt)
        self._learn(pieces)
        slot = np.full(self.num_queries, PLACEHOLDER_ID, np.int32)
        parts = [self._start, self._cache[pieces[0]]]
        for piece in pieces[1:]:
            parts += [slot, self._cache[piece]]
        return np.concatenate(parts)

    def encode(self, examples: Iterable[Mapping[str, Any]]) -> list[TokenisedExample]:
        """Tokenise examples.

        Args:
            examples: mappings with ``example_id``, ``prompt``, ``slots`` (a list of rows per slot) and ``target``
                (missing or None: prompt only), for instance ``frame.iter_rows(named=True)``.

        Returns:
            One ``TokenisedExample`` each, in the same order.

        Raises:
            ValueError: if a prompt's ``{item}`` and ``{user}`` markers and slots differ in number, or an example is
                too long.
        """
        rows = list(examples)
        self._learn(piece for row in rows for piece in self._pieces(row["prompt"]))
        targets = self.target_ids([row.get("target") for row in rows])
        return [self._example(row, target) for row, target in zip(rows, targets, strict=True)]

    def target_ids(self, targets: Sequence[str | None]) -> list[NDArray[np.int32]]:
        """Return the ids of each target, the end token last; empty for None."""
        empty = np.empty(0, np.int32)
        texts = [text for text in targets if text is not None]
        ids = iter(self.tokenizer(texts, add_special_tokens=False).input_ids if texts else [])
        return [empty if text is None else np.array([*next(ids), self.eos_id], np.int32) for text in targets]

    def _example(self, row: Mapping[str, Any], target: NDArray[np.int32]) -> TokenisedExample:
        slots = tuple(tuple(int(item) for item in slot) for slot in row["slots"])
        markers = len(_SLOTS.findall(row["prompt"]))
        if markers != len(slots) or not all(slots):
            raise ValueError(
                f"example {row['example_id']!r} has {markers} markers ({ITEM_SLOT} or {USER_SLOT}) in its prompt and "
                f"the slots {[list(slot) for slot in slots]}; give one non-empty list of rows per marker"
            )
        example = TokenisedExample(str(row["example_id"]), self.prompt_ids(row["prompt"]), target, slots)
        if self.max_length is not None and len(example) > self.max_length:
            raise ValueError(
                f"example {example.example_id!r} has {len(example)} tokens, more than the {self.max_length} allowed; "
                "shorten its prompt or target, or raise max_length"
            )
        return example

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without the end token and other special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
