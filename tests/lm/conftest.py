"""Examples and item vectors shared by the tests of phase 2."""

import pytest
import torch
from lm_tiny import ITEMS, QUERIES, byte_tokenizer

from ilm_lightning.lm import Collator, PromptTokenizer
from ilm_lightning.lm.prompts import TokenisedExample


@pytest.fixture(scope="session")
def prompts() -> PromptTokenizer:
    return PromptTokenizer(byte_tokenizer(), QUERIES)


@pytest.fixture(scope="session")
def examples(prompts: PromptTokenizer) -> list[TokenisedExample]:
    rows = [
        {"example_id": "a", "prompt": "Pitch {item}.", "slots": [[3]], "target": "A fine film."},
        {"example_id": "b", "prompt": "{item} or {item}?", "slots": [[3], [5]], "target": "Both."},
        {"example_id": "c", "prompt": "Between: {item}", "slots": [[1, 2]], "target": "Something in between them."},
        {"example_id": "d", "prompt": "Who are you?", "slots": [], "target": "A model."},
        {"example_id": "e", "prompt": "Sum up {item} in a word or two, please.", "slots": [[0]], "target": "Sad"},
    ]
    return prompts.encode(rows)


@pytest.fixture(scope="session")
def vectors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "semantic": torch.randn(ITEMS, 6, generator=generator),
        "behavioral": torch.randn(ITEMS, 4, generator=generator),
    }


@pytest.fixture(scope="session")
def collator(vectors: dict[str, torch.Tensor]) -> Collator:
    return Collator(vectors)
