"""Properties that hold for every input; ``ILM_EXAMPLES=10000`` looks at more of them (make test-slow)."""

import contextlib
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ilm_lightning.assets.archive import extract
from ilm_lightning.assets.errors import AssetError
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.splits import SPLITS, split_items, split_keys, split_task
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.engine.checkpoints import read_checkpoint
from ilm_lightning.evaluation.trie import NO_ITEM, build_trie
from ilm_lightning.lm import PromptTokenizer
from ilm_lightning.lm.batch import PLACEHOLDER_ID
from ilm_lightning.lm.prompts import ITEM_SLOT, USER_SLOT, split_slots
from ilm_lightning.lm.splice import splice
from lm.lm_tiny import CHAT, byte_tokenizer
from properties.readers import DOCUMENTED, READERS, Reader

# any text that a user may write
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def changed(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file after up to four changes: bytes replaced, inserted, deleted, repeated, or its end cut."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "insert", "delete", "repeat", "cut", "swap"]))
        length = draw(st.integers(1, 8))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            common = [
                b"\n",
                b",",
                b'"',
                b"\0",
                b"\xff",
                b"nan",
                b"inf",
                b"-1",
                b"1e999",
                b"{",
                b"../",
                b"&a *a",
                b"\t",
                b"::",
            ]
            data[place:place] = draw(st.one_of(st.sampled_from(common), st.binary(max_size=length)))
        elif kind == "delete":
            del data[place : place + length]
        elif kind == "repeat":
            data[place:place] = data[place : place + 8 * length]
        elif kind == "swap":
            data[place : place + length] = data[place : place + length][::-1]
        else:
            del data[place:]
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    if name != "configuration of a run":
        reader(tmp_path, reader.whole)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_any_file_is_read_or_refused_with_a_documented_error(name: str, data: st.DataObject) -> None:
    reader: Reader = READERS[name]
    content = data.draw(changed(reader.whole))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DOCUMENTED):
        reader(Path(folder), content)


def test_a_zip_with_a_nameless_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(zipfile.ZipInfo(""), b"x")
    with pytest.raises(AssetError, match="has no name"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_checkpoint_whose_error_says_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise EOFError

    monkeypatch.setattr(zipfile.ZipFile, "testzip", fails)
    (tmp_path / "last.ckpt").write_bytes(READERS["checkpoint"].whole)
    with pytest.raises(ValueError, match="is damaged: EOFError"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer(CHAT)


PIECES = st.lists(st.one_of(TEXT, st.sampled_from([ITEM_SLOT, USER_SLOT])), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, target=TEXT, queries=st.integers(1, 4))
def test_prompts(pieces: list[str], target: str, queries: int, tokenizer: Any) -> None:
    prompts = PromptTokenizer(tokenizer, queries)
    prompt = "".join(pieces)
    slots = len(split_slots(prompt)) - 1
    row = {"example_id": "x", "prompt": prompt, "slots": [[n] for n in range(slots)], "target": target}
    (example,) = prompts.encode([row])
    # as many placeholders as soft tokens, and no placeholder outside the prompt
    assert int((example.prompt_ids == PLACEHOLDER_ID).sum()) == slots * queries
    assert (example.target_ids >= 0).all()
    assert example.target_ids[-1] == prompts.eos_id
    known = example.prompt_ids[example.prompt_ids >= 0]
    assert (known < len(tokenizer)).all()
    # text survives: what is not a slot is in the ids, in order
    assert tokenizer.decode(known) == tokenizer.decode(
        [t for piece in split_slots(prompts.frame[0] + prompt + prompts.frame[1]) for t in prompts.pieces([piece])[0]]
    )
    with pytest.raises(ValueError, match="markers"):
        prompts.encode([{**row, "slots": [*row["slots"], [0]]}])


@given(data=st.data())
def test_splice(data: st.DataObject) -> None:
    rows, length, width = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3)))
    mask = torch.tensor(
        data.draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=rows, max_size=rows))
    )
    count = int(mask.sum())
    queries = data.draw(st.sampled_from([q for q in range(1, count + 1) if count % q == 0] or [1]))
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    embeddings = torch.randn(rows, length, width, generator=seed)
    soft = torch.randn(count // queries, queries, width, generator=seed)
    ids = torch.where(mask, -1, torch.arange(rows * length).view(rows, length))
    found = splice(embeddings, ids, -1, soft)
    assert torch.equal(found[~mask], embeddings[~mask])
    assert torch.equal(found[mask], soft.reshape(-1, width))
    wrong = torch.randn(count // queries + 1, queries, width)
    with pytest.raises(ValueError, match="placeholder positions"):
        splice(embeddings, ids, -1, wrong)


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=20))
def test_trie(rows: list[list[int]]) -> None:
    begins = any(a == b[: len(a)] for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)
    if not rows or begins or not all(rows):
        with pytest.raises(ValueError, match="item"):
            build_trie(rows)
        return
    trie = build_trie(rows)
    # exactly the items can be walked, token by token
    walked = []
    open_ = [()]
    while open_:
        prefix = open_.pop()
        following = trie.allowed(prefix)
        walked += [list(prefix)] if not following else []
        open_ += [(*prefix, token) for token in following]
    assert sorted(walked) == sorted(rows)
    assert sorted(trie.items[trie.items != NO_ITEM].tolist()) == list(range(len(rows)))
    assert all(row[: len(trie.forced)] == list(trie.forced) for row in rows)
    assert trie.depth == max(map(len, rows)) - len(trie.forced)


@given(st.lists(TEXT, min_size=1, max_size=30), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_splits(keys: list[str], seed: int, shuffle: Any) -> None:
    found = split_keys(keys, seed)
    assert set(found.tolist()) <= set(SPLITS)
    # a key's split depends on nothing but itself: neither on the others, nor on their order
    order = list(range(len(keys)))
    shuffle.shuffle(order)
    assert found[order].tolist() == split_keys([keys[i] for i in order], seed).tolist()
    assert found[0] == split_keys(keys[:1], seed)[0]
    everything = np.full(len(keys), "train")
    assert (split_keys(keys, seed, (1.0, 0.0, 0.0)) == everything).all()


@given(
    st.lists(st.tuples(TEXT, st.one_of(st.none(), st.integers(1900, 2030))), min_size=1, max_size=12),
    st.integers(0, 99),
)
def test_duplicates_of_a_film_fall_together(films: list[tuple[str, int | None]], seed: int) -> None:
    titles, years = zip(*films, strict=True)
    ids = [f"i{n}" for n in range(2 * len(films))]
    frame = pl.DataFrame({"item_id": ids, "title": [*titles] * 2, "year": pl.Series([*years] * 2, dtype=pl.Int16)})
    catalog = ItemCatalog(frame)
    split = split_items(catalog, seed)
    groups = catalog.frame["group"].to_list()
    by_group: dict[str, set[str]] = {}
    for group, part in zip(groups, split.tolist(), strict=True):
        by_group.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in by_group.values())
    assert len(split_task(catalog, "summary", seed)) == len(ids)


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=5))
def test_fractions_are_checked(shares: list[float]) -> None:
    fine = len(shares) == 3 and all(x >= 0 for x in shares) and abs(sum(shares) - 1) <= 1e-6
    if fine:
        split_keys(["a"], 0, tuple(shares))  # type: ignore[arg-type]
        return
    with pytest.raises(DataError, match="fractions"):
        split_keys(["a"], 0, tuple(shares))  # type: ignore[arg-type]
