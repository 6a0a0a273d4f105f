"""A whole run on tiny random models and invented data: the real commands, offline, in seconds."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lm"))

GENRES = ("Drama", "Comedy", "Thriller", "Horror", "Romance", "Action")
COUNTRIES = ("United States", "France", "Japan")
WORDS = tuple("a the film is good bad heat crime drama comedy war love thriller 1995 1999 ( ) big small".split())  # noqa: SIM905


def make_sentence_model(folder: Path) -> Path:
    """A random sentence-transformers model of width 16 with a vocabulary of a few words, as a local folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    bert = folder / "bert"
    BertModel(config).save_pretrained(bert)
    BertTokenizerFast(vocab={word: row for row, word in enumerate(vocabulary)}).save_pretrained(bert)
    transformer = Transformer(str(bert), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").save(str(folder / "model"))
    return folder / "model"


def make_tiny_lm(folder: Path) -> Path:
    """A random Llama of width 32 with a byte tokenizer, as a local folder."""
    from lm_tiny import CHAT, byte_tokenizer, tiny_llama

    tiny_llama(max_position_embeddings=2048).save_pretrained(folder)  # type: ignore[operator]
    byte_tokenizer(CHAT).save_pretrained(folder)
    return folder


def make_own_data(folder: Path) -> tuple[Path, Path]:
    """Interactions and items as a user would bring them."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    items = ["item,title,year,genres,countries,languages,directors,runtime,critic_score,n_reviews"]
    for i in range(60):
        genres = "|".join(draw.sample(GENRES, 2))
        country = draw.choice(COUNTRIES)
        year = draw.randint(1950, 2010)
        language = {"United States": "English", "France": "French", "Japan": "Japanese"}[country]
        items.append(
            f"m{i},Film number {i},{year},{genres},{country},{language},Jane Doe {i % 7},"
            f"{draw.randint(70, 180)},{draw.randint(5, 99)},{draw.randint(10, 200)}"
        )
    events = ["user,item,rating,timestamp"]
    for user in range(40):
        for step, item in enumerate(draw.sample(range(60), 20)):
            events.append(f"u{user},m{item},{draw.randint(1, 5)},{1000 + step}")
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    (folder / "events.csv").write_text("\n".join(events) + "\n", encoding="utf-8")
    return folder / "events.csv", folder / "items.csv"


def small_settings(tiny_lm: Path, tiny_sentence_model: Path, own_data: tuple[Path, Path]) -> list[str]:
    """Overrides that shrink the main job to seconds."""
    events, items = own_data
    return [
        "data=custom",
        f"data.interactions={events}",
        f"data.items={items}",
        "budget=tiny",
        f"lm.name={tiny_lm}",
        f"encoder.text_model={tiny_sentence_model}",
        "encoder.als.factors=8",
        f"adapter.bert={tiny_sentence_model}",
        "adapter.hidden_size=16",
        "adapter.num_layers=1",
        "adapter.num_heads=2",
        "adapter.intermediate_size=32",
        "adapter.num_queries=2",
        "pretraining.batch_size=8",
        "pretraining.pair_batch_size=8",
        "pretraining.grounding_min_count=1",
        "pretraining.steps=6",
        "pretraining.val_every=3",
        "tuning.batch_size=4",
        f"evaluation.scorer={tiny_sentence_model}",
        "evaluation.max_new_tokens=8",
        "evaluation.bootstrap=50",
        "trainer.accelerator=cpu",
        "logger.samples=2",
        "logger.sample_tokens=4",
    ]


SHOP_PROMPTS = """sequential; seen; {dataset} user_{user_id} bought {history} . Next ?; {dataset} {target}
straightforward; seen; What is good for {dataset} user_{user_id} ?; {dataset} {target}
sequential; unseen; {history} led user_{user_id} to ?; {dataset} {target}
straightforward; unseen; Advise user_{user_id} .; {dataset} {target}
"""


def make_shop(folder: Path) -> Path:
    """An invented shop in OpenP5's files: sequences, texts and prompts."""
    draw = random.Random(0)
    (folder / "Shop").mkdir(parents=True)
    lines = [" ".join([f"u{u}", *(f"i{i}" for i in draw.sample(range(15), draw.randint(5, 9)))]) for u in range(20)]
    (folder / "Shop" / "user_sequence.txt").write_text("\n".join(lines) + "\n")
    rows = [f"i{i}\tThing {i}\tBrand {i % 3}\t'Shop', 'Kind {i % 4}'" for i in range(15)]
    (folder / "texts.tsv").write_text("\n".join(["asin\ttitle\tbrand\tcategories", *rows]) + "\n")
    (folder / "prompt.txt").write_text(SHOP_PROMPTS)
    return folder


def shop_settings(shop: Path, settings: list[str]) -> list[str]:
    """Overrides for recommendation in the shop, from those of the main job."""
    mine = [o for o in settings if not o.startswith("data")]
    return [
        "data=openp5", "data.name=Shop", f"data.path={shop / 'Shop'}", f"data.items={shop / 'texts.tsv'}",
        "tasks=openp5", f"tasks.prompts={shop / 'prompt.txt'}", "tasks.history=4",
        "evaluation.beams=15", "evaluation.batch_size=24", *mine,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of width 32 with a byte tokenizer, as a local folder."""
    return make_tiny_lm(tmp_path_factory.mktemp("tiny-lm"))


@pytest.fixture(scope="session")
def tiny_sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sentence-transformers model of width 16 with a vocabulary of a few words, as a local folder."""
    return make_sentence_model(tmp_path_factory.mktemp("tiny-sentences"))


@pytest.fixture(scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Interactions and items as a user would bring them."""
    return make_own_data(tmp_path_factory.mktemp("own-data"))


@pytest.fixture(scope="session")
def tiny_settings(tiny_lm: Path, tiny_sentence_model: Path, own_data: tuple[Path, Path]) -> list[str]:
    """Overrides that shrink the main job to seconds."""
    return small_settings(tiny_lm, tiny_sentence_model, own_data)


@pytest.fixture
def tiny_overrides(tiny_settings: list[str], tmp_path: Path) -> list[str]:
    """The same with folders of this test alone."""
    return [*tiny_settings, f"artifacts={tmp_path}/artifacts", f"outputs={tmp_path}/outputs"]


@pytest.fixture(scope="session")
def shared_overrides(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same with artefacts that tests share, so that data and vectors are made once."""
    root = tmp_path_factory.mktemp("shared")
    return [*tiny_settings, f"artifacts={root}/artifacts", f"outputs={root}/outputs"]
