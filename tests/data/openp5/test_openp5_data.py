"""OpenP5's sequences and indexings: small files worked by hand, and Table 5's counts on the real ones."""

import gzip
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.openp5 import (
    Indexing,
    Sequences,
    make_indexing,
    read_indexing,
    read_sequences,
    sequences_from_events,
)
from ilm_lightning.data.openp5.raw import k_core, write_sequences

LINES = ["u1 a b c d", "u2 b c a", "u3 c b d a e"]


def written(folder: Path, lines: list[str] = LINES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "user_sequence.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Sequences:
    return read_sequences(written(tmp_path / "Tiny"))


def test_rows_follow_first_appearance(tiny: Sequences) -> None:
    assert tiny.name == "Tiny"
    assert tiny.item_ids == ["a", "b", "c", "d", "e"]
    assert tiny.items(1).tolist() == [1, 2, 0]
    assert tiny.targets("test").tolist() == [3, 0, 4]
    assert tiny.targets("validation").tolist() == [2, 2, 0]


def test_statistics_worked_by_hand(tiny: Sequences) -> None:
    # training parts: u1 a b, u2 b, u3 c b d; consecutive pairs: ab, cb, bd
    assert tiny.statistics() == {
        "users": 3,
        "items": 5,
        "interactions": 12,
        "item_item_pairs": 3,
        "user_item_pairs": 6,
        "texts": 5,
        "phase2_train": 60,
        "phase2_test": 6,
    }
    pairs, counts = tiny.item_pairs()
    assert pairs.tolist() == [[0, 1], [1, 3], [2, 1]]
    assert counts.tolist() == [1, 1, 1]
    assert tiny.popularity().tolist() == [1, 3, 1, 1, 0]


def test_no_held_out_item_in_training_interactions(tiny: Sequences) -> None:
    matrix = tiny.training_interactions().matrix()
    users = np.arange(len(tiny))
    for split in ("validation", "test"):
        assert not matrix[users, tiny.targets(split)].any()
    # changing what is held out changes nothing that training sees
    values = tiny.values.copy()
    values[tiny.offsets[1:] - 1] = 0
    other = Sequences("Tiny", tiny.user_ids, tiny.item_ids, tiny.offsets, values)
    assert (other.training_interactions().matrix() != matrix).nnz == 0
    assert np.array_equal(other.item_pairs()[0], tiny.item_pairs()[0])


def test_seen_grows_with_the_split(tiny: Sequences) -> None:
    assert tiny.seen("validation").toarray().sum(1).tolist() == [2, 1, 3]
    assert tiny.seen("test").toarray().sum(1).tolist() == [3, 2, 4]


def test_sequential_indexing_meets_training_items_first(tiny: Sequences, tmp_path: Path) -> None:
    # a b | b | c b d in training, then e
    assert make_indexing(tiny, "sequential").items == ["1001", "1002", "1003", "1004", "1005"]
    # a | e b in training, then what is left in order of the file
    later = read_sequences(written(tmp_path / "Later", ["u1 a c d", "u2 e b a c"]))
    assert later.item_ids == ["a", "c", "d", "e", "b"]
    assert make_indexing(later, "sequential").items == ["1001", "1004", "1005", "1002", "1003"]
    assert make_indexing(tiny, "sequential").users == ["1", "2", "3"]


def test_random_indexing_is_a_permutation_of_the_seed(tiny: Sequences) -> None:
    one, two = make_indexing(tiny, "random"), make_indexing(tiny, "random", seed=1)
    assert sorted(one.items) == sorted(two.items) == [str(1001 + i) for i in range(5)]
    assert one.items == make_indexing(tiny, "random").items


def test_collaborative_indexing_separates_what_never_meets(tmp_path: Path) -> None:
    groups = [[f"{g}{i}" for i in range(6)] for g in "xy"]
    lines = [" ".join([f"{g[0][0]}u{k}", *g[k:], *g[:k]]) for g in groups for k in range(6)]
    sequences = read_sequences(written(tmp_path / "Two", lines))
    items = dict(zip(sequences.item_ids, make_indexing(sequences, "collaborative", 2, 6).items, strict=True))
    first = {item: path.split(">")[0] for item, path in items.items()}
    assert len({first[i] for i in groups[0]}) == len({first[i] for i in groups[1]}) == 1
    assert first["x0"] != first["y0"]
    assert len(set(items.values())) == 12


def test_collaborative_splits_large_clusters_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"u{u} " + " ".join(f"i{i}" for i in rng.permutation(30)[:8]) for u in range(60)]
    sequences = read_sequences(written(tmp_path / "Deep", lines))
    items = make_indexing(sequences, "collaborative", 3, 4).items
    assert len(set(items)) == sequences.n_items
    assert max(path.count("<CI") for path in items) >= 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["u1 a b c", "", "u2 a b c"], "line 2: the line is empty"),
        (["u1 a b"], "line 1: user 'u1' has 2 items"),
        (["u1 a b c", "u1 b c a"], "line 2: user 'u1' is on line 1 already"),
        ([], "empty"),
    ],
)
def test_broken_sequences_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    folder = tmp_path / "Bad"
    folder.mkdir()
    (folder / "user_sequence.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_sequences(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_of_another_encoding_is_named(tmp_path: Path, packed: bool) -> None:
    # far behind the first block that is decoded
    text = "".join(f"u{user} a b c\n" for user in range(2000)).encode() + "zoë a b c\n".encode("latin-1")
    (tmp_path / f"user_sequence.txt{'.gz' if packed else ''}").write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(DataError, match="line 2001: not UTF-8; save the file as UTF-8"):
        read_sequences(tmp_path)


def test_missing_file_and_damaged_gzip(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"user_sequence\.txt is missing"):
        read_sequences(tmp_path)
    whole = gzip.compress("\n".join(LINES * 50).encode())
    (tmp_path / "user_sequence.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        read_sequences(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1001\nb 1002\nc 1003\nd 1004\n", "'e' occurs in the sequences but has no index"),
        ("b 1\nf 9\na 1\nc 2\nd 3\ne 4\n", "lines 1 and 3: item index '1' is given twice, to 'b' and 'a'"),
        ("a 1\na 2\nb 3\nc 4\nd 5\ne 6\n", "line 2: item 'a' has an index already"),
        ("a 1\nb\n", "line 2: 'b' is no pair of item id and index; write both with a space .* as in 'b 1001'"),
        ("a 1\n\nb 2\n", "line 2: the line is empty; take it out"),
    ],
)
def test_broken_index_files(tmp_path: Path, text: str, message: str) -> None:
    folder = written(tmp_path / "Tiny")
    (folder / "item_random_indexing.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_indexing(folder, "random", read_sequences(folder))


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path: Path) -> None:
    folder = tmp_path / "Marked"
    folder.mkdir()
    for name, lines in (
        ("user_sequence.txt", LINES),
        ("item_random_indexing.txt", [f"{item} {row}" for row, item in enumerate("abcde")]),
        ("user_indexing.txt", ["u1 7", "u2 8", "u3 9"]),
    ):
        (folder / name).write_text("\n".join(lines), encoding="utf-8-sig")
    sequences = read_sequences(folder)
    assert sequences.user_ids[0] == "u1"
    found = read_indexing(folder, "random", sequences)
    assert found is not None
    assert (found.items, found.users) == (["0", "1", "2", "3", "4"], ["7", "8", "9"])


def test_indexings_made_elsewhere_may_not_repeat_an_id() -> None:
    with pytest.raises(DataError, match="hand-made: user index '1' is given twice"):
        Indexing("random", ["1", "2"], ["1", "1"], "hand-made")


def test_users_of_three_items_leave_nothing_to_train_on(tmp_path: Path, tiny: Sequences) -> None:
    tiny.check_trainable()
    assert tiny.n_training_targets == 3
    with pytest.raises(DataError, match="users with at least 4 are needed"):
        read_sequences(written(tmp_path / "Short", ["u1 a b c", "u2 c b a"])).check_trainable()


def test_given_index_is_taken_and_absent_one_is_none(tmp_path: Path) -> None:
    folder = written(tmp_path / "Tiny")
    (folder / "item_random_indexing.txt").write_text("a 5\nb 4\nc 3\nd 2\ne 1\nf 9\n", encoding="utf-8")
    sequences = read_sequences(folder)
    found = read_indexing(folder, "random", sequences)
    assert found is not None
    assert found.items == ["5", "4", "3", "2", "1"]
    assert read_indexing(folder, "sequential", sequences) is None
    with pytest.raises(DataError, match="unknown indexing 'semantic'"):
        read_indexing(folder, "semantic", sequences)
    with pytest.raises(DataError, match="unknown indexing"):
        make_indexing(sequences, "semantic")
    with pytest.raises(DataError, match="clusters"):
        make_indexing(sequences, "collaborative", 1, 5)


def test_raw_events_become_a_core_in_time_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users = [f"u{u}" for u in range(8) for _ in range(6)]
    items = [f"i{i}" for _ in range(8) for i in rng.permutation(6)]
    times = rng.permutation(len(users))
    events = pl.DataFrame({"user": [*users, "lonely"], "item": [*items, "i0"], "timestamp": [*times, 999]})
    sequences = sequences_from_events(events, "Raw")
    assert "lonely" not in sequences.user_ids
    assert sequences.statistics()["interactions"] == 48
    when = {(u, i): t for u, i, t in events.iter_rows()}
    for user, name in enumerate(sequences.user_ids):
        order = [when[name, sequences.item_ids[row]] for row in sequences.items(user)]
        assert order == sorted(order)
    again = read_sequences(write_sequences(sequences, tmp_path / "Raw").parent)
    assert again.user_ids == sequences.user_ids
    assert again.item_ids == sequences.item_ids
    assert np.array_equal(again.values, sequences.values)


def test_core_falls_apart_step_by_step() -> None:
    # i2 goes first, then u2 has too few, then nobody is left
    events = pl.DataFrame({"user": ["u1", "u1", "u2", "u2"], "item": ["i1", "i1", "i1", "i2"]})
    assert k_core(events, 3).is_empty()
    with pytest.raises(DataError, match="at least"):
        sequences_from_events(events.with_columns(timestamp=pl.lit(1)), "None")
    with pytest.raises(DataError, match="'timestamp' is missing"):
        sequences_from_events(events, "None")


TABLE_5 = {
    "ML1M": (6040, 3416, 999_611, 533_123, 987_531, 19_629_820, 12_080),
    "Beauty": (22_363, 12_101, 198_502, 114_582, 153_776, 2_628_260, 44_726),
    "Clothing": (39_387, 23_033, 278_677, 158_373, 199_903, 3_210_320, 78_774),
    "ML100K": (943, 1349, 99_287, 71_616, 97_401, 1_929_160, 1_886),
}


@pytest.mark.parametrize("name", TABLE_5)
def test_table_5_to_the_digit(name: str) -> None:
    if "ILM_DATA" not in os.environ:
        pytest.skip("ILM_DATA is not set: OpenP5's files may not be copied into the repository")
    folder = Path(os.environ["ILM_DATA"]) / "openp5" / name
    sequences = read_sequences(folder)
    counts = sequences.statistics()
    keys = ("users", "items", "interactions", "item_item_pairs", "user_item_pairs", "phase2_train", "phase2_test")
    assert tuple(counts[key] for key in keys) == TABLE_5[name]
    assert sequences.reconstructed == (name == "ML1M")
    for kind in ("random", "sequential", "collaborative"):
        found = read_indexing(folder, kind, sequences)
        assert found is not None
        assert len(set(found.items)) == sequences.n_items
        if kind == "sequential" and not sequences.reconstructed:
            assert found.items == make_indexing(sequences, kind).items
