"""An invented shop in OpenP5's format, for the tests of recommendation."""

import random
from pathlib import Path

import pytest

PROMPTS = """sequential; seen; {dataset} user_{user_id} bought {history} . Next ?; {dataset} {target}
straightforward; seen; What is good for {dataset} user_{user_id} ?; {dataset} {target}
sequential; unseen; {history} led user_{user_id} to ?; {dataset} {target}
straightforward; unseen; Advise user_{user_id} .; {dataset} {target}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    draw = random.Random(0)
    (folder / "Shop").mkdir()
    lines = [" ".join([f"u{u}", *(f"i{i}" for i in draw.sample(range(15), draw.randint(5, 9)))]) for u in range(20)]
    (folder / "Shop" / "user_sequence.txt").write_text("\n".join(lines) + "\n")
    rows = [f"i{i}\tThing {i}\tBrand {i % 3}\t'Shop', 'Kind {i % 4}'" for i in range(15)]
    (folder / "texts.tsv").write_text("\n".join(["asin\ttitle\tbrand\tcategories", *rows]) + "\n")
    (folder / "prompt.txt").write_text(PROMPTS)
    return folder


@pytest.fixture
def overrides(tiny_overrides: list[str], shop: Path) -> list[str]:
    mine = [o for o in tiny_overrides if not o.startswith("data")]
    return [
        "data=openp5", "data.name=Shop", f"data.path={shop / 'Shop'}", f"data.items={shop / 'texts.tsv'}",
        "tasks=openp5", f"tasks.prompts={shop / 'prompt.txt'}", "tasks.history=4",
        "evaluation.beams=15", "evaluation.batch_size=24", *mine,
    ]  # fmt: skip
