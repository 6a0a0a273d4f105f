"""Write invented files of the size and shape of MovieLens 25M, for tests of scale.

The ratings of MovieLens may not be passed on. This makes a file set like it around a real ``movies.csv`` (the file of
ml-25m, or any in its format): popularity of a long tail, users of a lognormal activity, tastes by genre and era,
sessions in time, user tags in many spellings, and tag-genome scores. Nothing that is measured on it says anything about
MovieLens, and ``generated.json`` beside the files marks them so.

    python benchmarks/movielens_25m.py /data/ml-25m/movies.csv /data/ml-25m-generated             # 1.2 GB
    python benchmarks/movielens_25m.py /data/ml-25m/movies.csv /data/ml-25m-tiny --scale 0.01
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[Any]

RATINGS, USERS, MOVIES, RATED = 25_000_095, 162_541, 62_423, 59_047
TAGS, TAGGERS, TAGGED, GENOME_MOVIES, GENOME_TAGS = 1_093_360, 14_592, 45_251, 13_816, 1_128
FEWEST, TYPICAL, SPREAD = 20, 51.0, 1.39
"""Ratings of a user: at least 20, above that lognormal (median 71, mean 154)."""
POPULARITY = ((1, 81_000), (100, 36_000), (1_000, 7_000), (3_800, 1_000), (10_300, 100), (24_300, 10), (59_047, 1))
"""Ratings of the n-th most popular movie, about as in the release; between these straight in logarithms."""
TASTES, ERAS, LATENT = 24, 12, 6
FIRST_SECOND, LAST_SECOND = 789_652_009, 1_574_327_703
YEAR_S = 365.25 * 86_400
HEAVY = 0.02
"""A user of more than this share of the movies is drawn without rejection."""
ROWS_AT_ONCE = 4_000_000
WORDS = {
    "adjectives": "slow quiet bleak tense clever silly warm cold strange brutal tender witty dark bright lonely wild "
    "gritty lush absurd gentle surreal sharp messy earnest dreamy loud faithful forgotten stylish raw",
    "nouns": "heist ending robots marriage revenge road-trip dialogue friendship monsters courtroom prison small-town "
    "ocean war family kitchen detective ghosts summer winter school space city island dance boxing train letter mirror "
    "garden photography soundtrack twist narrator chase wedding memory betrayal dinner mountain desert circus library",
    "first names": "Ana Boris Carla Deniz Elif Farid Greta Hugo Inès Jörg Keiko Lars Mina Noé Olga Pavel Renée Søren "
    "Tomás Uma",
    "last names": "Abbott Becker Castro Duval Eriksen Ferrari García Hughes Ivanov Jensen Kovač Lindqvist Müller Novák "
    "Okafor Pérez Quinn Rossi Sato Tanaka Ueda Vargas Weiß Xu Yilmaz Zielinski O'Neill & Sons",
}
ADJECTIVES, NOUNS, FIRST, LAST = (text.split() for text in WORDS.values())


@dataclass(frozen=True)
class Sizes:
    """How many of each, at one scale."""

    ratings: int
    users: int
    movies: int
    rated: int
    tags: int
    taggers: int
    tagged: int
    genome_movies: int

    @classmethod
    def of(cls, scale: float) -> "Sizes":
        """The release's counts times ``scale``."""
        whole = (RATINGS, USERS, MOVIES, RATED, TAGS, TAGGERS, TAGGED, GENOME_MOVIES)
        return cls(*(max(2, round(count * scale)) for count in whole))


@dataclass(frozen=True)
class Movies:
    """The movies of a set, in the order of their ids.

    Attributes:
        table: movieId, title, genres as in the file.
        features: [M, F] genres and invented traits, each row of length 1.
        year: [M] of release; 1990 where the title has none.
        weight: [M] popularity, 0 for movies that nobody rates.
        quality: [M] what all agree on.
    """

    table: pl.DataFrame
    features: Array
    year: Array
    weight: Array
    quality: Array


def read_movies(path: Path, sizes: Sizes, rng: np.random.Generator) -> Movies:
    """Draw the set's movies from a movies.csv and give them traits and popularity."""
    table = pl.read_csv(path, schema_overrides={"movieId": pl.UInt32, "title": pl.String, "genres": pl.String})
    if table.height < sizes.movies:
        raise SystemExit(f"{path} has {table.height} movies, this scale needs {sizes.movies}; lower --scale")
    if table.height > sizes.movies:
        rows = np.sort(rng.choice(table.height, sizes.movies, replace=False))
        table = table[rows]
    table = table.sort("movieId")
    hot = table["genres"].fill_null("").str.split("|").list.unique().to_list()
    names = sorted({name for own in hot for name in own})
    features = np.zeros((table.height, len(names) + LATENT))
    for row, own in enumerate(hot):
        features[row, [names.index(name) for name in own]] = 1.0
    features[:, len(names) :] = rng.normal(size=(table.height, LATENT))
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    year = table["title"].fill_null("").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32).fill_null(1990).to_numpy()
    # early ids went in first and are better known
    order = np.argsort(0.6 * np.log(table["movieId"].to_numpy()) + rng.normal(size=table.height), kind="stable")
    ranks, counts = (np.log(np.array(column, dtype=np.float64)) for column in zip(*POPULARITY, strict=True))
    rank = np.arange(1, sizes.rated + 1) / sizes.rated * RATED
    weight = np.zeros(table.height)
    weight[order[: sizes.rated]] = np.exp(np.interp(np.log(rank), ranks, counts))
    quality = rng.normal(size=table.height) + 0.15 * np.log1p(weight)
    return Movies(table, features, year, weight, quality - quality.mean())


def activity(sizes: Sizes, rng: np.random.Generator) -> Array:
    """Ratings of each user, their sum exact."""
    most = int(0.5 * sizes.rated)
    count = FEWEST + np.floor(TYPICAL * np.exp(SPREAD * rng.normal(size=sizes.users)))
    for _ in range(50):
        count = np.clip(count, FEWEST, most)
        missing = sizes.ratings - count.sum()
        if abs(missing) < 1:
            break
        free = (count - FEWEST) if missing < 0 else np.where(count < most, count - FEWEST + 1, 0)
        count = np.floor(count + free * missing / max(free.sum(), 1) + rng.random(sizes.users) * 0.999)
    count = np.clip(count, FEWEST, most).astype(np.int64)
    while (missing := sizes.ratings - int(count.sum())) != 0:
        open_rows = np.flatnonzero(count < most if missing > 0 else count > FEWEST)
        if open_rows.size == 0:
            raise SystemExit("so many ratings do not fit so few users and movies; raise --scale")
        count[rng.permutation(open_rows)[: abs(missing)]] += np.sign(missing)
    return count


def draw_items(count: Array, weight: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw each user's movies without repetition.

    Returns:
        Per rating the user's row, the movie's row, and its place in the order in which the user rated.
    """
    n_items = len(weight)
    heavy = np.flatnonzero(count > HEAVY * n_items)
    light = np.flatnonzero(count <= HEAVY * n_items)
    users, items = _rejected(light, count, weight, rng)
    done = np.bincount(users, minlength=len(count)) == count
    parts = [(users[done[users]], items[done[users]])]
    with np.errstate(divide="ignore"):
        logs = np.log(weight)
    for user in np.concatenate([heavy, light[~done[light]]]):
        score = logs + rng.gumbel(size=n_items)
        best = np.argpartition(-score, int(count[user]) - 1)[: count[user]]
        parts.append((np.full(len(best), user), best[np.argsort(-score[best])]))
    users, items = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    starts = np.searchsorted(users, np.arange(len(count)))
    return users, items, np.arange(len(users)) - starts[users]


def _rejected(who: Array, count: Array, weight: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw with repetition, more than needed, and keep each movie's first draw; some users may stay short."""
    bounds = np.cumsum(weight)
    users = items = np.zeros(0, dtype=np.int64)
    short = who
    for factor in (1.5, 3.0, 8.0):
        if short.size == 0:
            break
        more = np.repeat(short, np.ceil(factor * count[short]).astype(np.int64) + 8)
        drawn = np.minimum(np.searchsorted(bounds, rng.random(len(more)) * bounds[-1], side="right"), len(weight) - 1)
        users, items = np.concatenate([users, more]), np.concatenate([items, drawn])
        order = np.argsort(users, kind="stable")
        users, items = users[order], items[order]
        first = np.sort(np.unique(users * len(weight) + items, return_index=True)[1])
        users, items = users[first], items[first]
        place = np.arange(len(users)) - np.searchsorted(users, users)
        users, items = users[place < count[users]], items[place < count[users]]
        short = who[np.bincount(users, minlength=len(count))[who] < count[who]]
    return users, items


def make_ratings(movies: Movies, sizes: Sizes, rng: np.random.Generator) -> pl.DataFrame:
    """Who rated what, how and when, in the order of the release."""
    count = activity(sizes, rng)
    group = rng.integers(TASTES * ERAS, size=sizes.users)
    taste = rng.normal(size=(TASTES, movies.features.shape[1]))
    start = FIRST_SECOND + (LAST_SECOND - FIRST_SECOND) * (0.05 + 0.93 * rng.random(sizes.users))
    columns: list[tuple[Array, ...]] = []
    for number in range(TASTES * ERAS):
        who = np.flatnonzero(group == number)
        if who.size == 0:
            continue
        liking = movies.features @ taste[number % TASTES]
        liking /= max(float(liking.std()), 1e-9)
        # users of one era share their years
        begin, width = FIRST_SECOND, (LAST_SECOND - FIRST_SECOND) / ERAS
        era_start = begin + (number // TASTES + 0.95 * (start[who] - begin) / (LAST_SECOND - begin)) * width
        age = 1970 + (begin + (number // TASTES + 1) * width) / YEAR_S - movies.year
        weight = movies.weight * np.exp(0.8 * liking - np.maximum(age, 0) / 25) * np.where(age < 0, 1e-4, 1.0)
        users, items, place = draw_items(count[who], weight, rng)
        bias = 0.4 * rng.normal(size=len(who))
        stars = 3.5 + bias[users] + 0.4 * movies.quality[items] + 0.25 * liking[items]
        stars += 0.7 * rng.normal(size=len(items))
        pause = 86_400 * rng.exponential(20.0, size=len(who))
        moment = era_start[users] + 9 * place + pause[users] * (place // 40)
        columns.append(
            (who[users], items, np.clip(np.rint(2 * stars), 1, 10), np.minimum(moment, LAST_SECOND - 100_000 + place))
        )
    user, item, halves, moment = (np.concatenate(column) for column in zip(*columns, strict=True))
    item = _rate_every_movie(item, movies, rng)
    order = np.argsort(user.astype(np.int64) * movies.table.height + item)
    ids = movies.table["movieId"].to_numpy()
    return pl.DataFrame(
        {
            "userId": (user[order] + 1).astype(np.uint32),
            "movieId": ids[item[order]],
            "rating": (halves[order] / 2).astype(np.float32),
            "timestamp": moment[order].astype(np.int64),
        }
    )


def _rate_every_movie(item: Array, movies: Movies, rng: np.random.Generator) -> Array:
    """Turn ratings of well-known movies into first ratings of movies that were never drawn."""
    count = np.bincount(item, minlength=len(movies.weight))
    missing = np.flatnonzero((count == 0) & (movies.weight > 0))
    rich = np.flatnonzero(count[item] > 50)
    rich = rich if len(rich) >= len(missing) else np.flatnonzero(count[item] > 1)
    item = item.copy()
    item[rng.choice(rich, len(missing), replace=False)] = missing
    return item


def vocabulary(genome: list[str], size: int, rng: np.random.Generator) -> list[str]:
    """Tags as people might write them, the genome's first."""
    moods = [f"{a} {n}" for a in ADJECTIVES for n in NOUNS] + [f"{n} and {m}" for n in NOUNS for m in NOUNS if n != m]
    people = [f"{first} {middle}{last}" for first in FIRST for last in LAST for middle in ("", "A. ", "B. ", "J. ")]
    invented = [*dict.fromkeys([*moods, *people, *(f"seen {year}" for year in range(1995, 2020))])]
    more = [f"{tag} ({number})" for number in range(2, 9) for tag in invented]
    shuffled = [*rng.permutation(genome).tolist(), *rng.permutation(invented).tolist(), *more]
    return shuffled[: max(size, len(genome))]


def spellings(tag: str) -> list[str]:
    """One tag as typed by different people, some by broken programs."""
    misread = tag.encode().decode("latin-1")
    odd = misread if misread != tag else tag.replace("&", "&amp;")
    return [tag, tag.title(), tag.upper(), f"{tag} ", f'"{tag}"', odd]


def make_tags(movies: Movies, sizes: Sizes, genome: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """Who tagged what with which words; each movie has favourites of its own."""
    words = vocabulary(genome, round(4 * sizes.tags**0.63), rng)
    frequency = np.cumsum(1.0 / np.arange(3, len(words) + 3) ** 0.8)
    activity_of = rng.pareto(0.9, size=sizes.taggers) + 0.2
    user_bounds = np.cumsum(np.minimum(activity_of, 0.15 * activity_of.sum()))
    taggers = np.sort(rng.choice(sizes.users, min(sizes.taggers, sizes.users), replace=False)) + 1
    taggers = np.resize(taggers, sizes.taggers)
    known = np.argsort(-movies.weight, kind="stable")[: sizes.tagged]
    movie_bounds = np.cumsum(movies.weight[known] ** 0.8)
    user = taggers[np.searchsorted(user_bounds, rng.random(sizes.tags) * user_bounds[-1])]
    movie = known[np.searchsorted(movie_bounds, rng.random(sizes.tags) * movie_bounds[-1])]
    movie[: len(known)] = known
    favourite = np.minimum(rng.zipf(1.6, size=sizes.tags), 400)
    # a movie's k-th favourite is a function of movie and k
    position = (movie * 0.7548776662466927 + favourite * 0.5698402909980532) % 1.0
    word = np.minimum(np.searchsorted(frequency, position * frequency[-1]), len(words) - 1)
    spelling = rng.choice(6, size=sizes.tags, p=[0.74, 0.17, 0.03, 0.02, 0.01, 0.03])
    typed = pl.Series([form for tag in words for form in spellings(tag)])
    moment = FIRST_SECOND + 3.3e8 + rng.random(sizes.tags) * (LAST_SECOND - FIRST_SECOND - 3.3e8)
    frame = pl.DataFrame(
        {
            "userId": user.astype(np.uint32),
            "movieId": movies.table["movieId"].to_numpy()[movie],
            "tag": typed.gather(pl.Series(6 * word + spelling)),
            "timestamp": moment.astype(np.int64),
        }
    )
    return frame.sort("userId", "movieId", "timestamp")


def write_genome(folder: Path, movies: Movies, sizes: Sizes, n_tags: int, rng: np.random.Generator) -> int:
    """Write genome-scores.csv: every tag's relevance for each of the best-known movies; most are small."""
    known = np.sort(np.argsort(-movies.weight, kind="stable")[: sizes.genome_movies])
    effect = 1.6 * rng.normal(size=(movies.features.shape[1], n_tags))
    base = rng.normal(-3.0, 0.8, size=n_tags)
    per_part = max(1, ROWS_AT_ONCE // n_tags)
    with (folder / "genome-scores.csv").open("wb") as stream:
        for first in range(0, len(known), per_part):
            rows = known[first : first + per_part]
            strength = base + movies.features[rows] @ effect + 0.5 * rng.normal(size=(len(rows), n_tags))
            relevance = np.rint(4000 / (1 + np.exp(-strength))).clip(1, 4000).ravel() / 4000
            # the release's numbers carry the noise of binary sums: 0.028749999999999998
            noisy = rng.random(relevance.size) < 0.7
            relevance[noisy] = np.nextafter(relevance[noisy], 0.0)
            pl.DataFrame(
                {
                    "movieId": np.repeat(movies.table["movieId"].to_numpy()[rows], n_tags),
                    "tagId": np.tile(np.arange(1, n_tags + 1, dtype=np.uint16), len(rows)),
                    "relevance": relevance,
                }
            ).write_csv(stream, include_header=first == 0)
    return len(known) * n_tags


def generate(movies_csv: Path, folder: Path, scale: float = 1.0, seed: int = 0) -> dict[str, int]:
    """Write the six files of the release and ``generated.json``.

    Args:
        movies_csv: movieId, title, genres; links.csv and genome-tags.csv beside it are taken too.
        folder: made if missing.
        scale: share of the release's counts; 1 writes 1.2 GB.
        seed: the same seed, scale and movies give the same bytes.

    Returns:
        Rows of each file.
    """
    rng = np.random.default_rng(seed)
    sizes = Sizes.of(scale)
    movies = read_movies(movies_csv, sizes, rng)
    folder.mkdir(parents=True, exist_ok=True)
    genome = _genome_tags(movies_csv.parent / "genome-tags.csv")
    pl.DataFrame({"tagId": range(1, len(genome) + 1), "tag": genome}).write_csv(folder / "genome-tags.csv")
    movies.table.write_csv(folder / "movies.csv")
    _links(movies_csv.parent / "links.csv", movies).write_csv(folder / "links.csv")
    ratings = make_ratings(movies, sizes, rng)
    with (folder / "ratings.csv").open("wb") as stream:
        for first in range(0, ratings.height, ROWS_AT_ONCE):
            ratings.slice(first, ROWS_AT_ONCE).write_csv(stream, include_header=first == 0)
    tags = make_tags(movies, sizes, genome, rng)
    tags.write_csv(folder / "tags.csv")
    rows = {"movies": movies.table.height, "ratings": ratings.height, "tags": tags.height}
    rows["genome_scores"] = write_genome(folder, movies, sizes, len(genome), rng)
    note = {
        "note": "invented ratings, tags and genome scores; not MovieLens",
        "scale": scale,
        "seed": seed,
        "rows": rows,
    }
    (folder / "generated.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return rows


def _genome_tags(path: Path) -> list[str]:
    if path.is_file():
        return pl.read_csv(path, schema_overrides={"tag": pl.String}).sort("tagId")["tag"].to_list()
    pairs = [f"{noun} {kind}" for kind in ("story", "scenes", "theme", "comedy", "drama") for noun in NOUNS]
    return [*NOUNS, *ADJECTIVES, *pairs, *(f"genome tag {n}" for n in range(GENOME_TAGS))][:GENOME_TAGS]


def _links(path: Path, movies: Movies) -> pl.DataFrame:
    ids = movies.table.select("movieId")
    if path.is_file():
        links = pl.read_csv(path, infer_schema=False).with_columns(pl.col("movieId").cast(pl.UInt32))
        return ids.join(links, on="movieId", how="left", maintain_order="left")
    return ids.with_columns(
        (pl.col("movieId") + 100_000).cast(pl.String).str.zfill(7).alias("imdbId"), pl.col("movieId").alias("tmdbId")
    )


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("movies", type=Path, help="a movies.csv; links.csv and genome-tags.csv beside it are used")
    parser.add_argument("folder", type=Path, help="where to write; about 1.2 GB at scale 1")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the release's counts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    rows = generate(arguments.movies, arguments.folder, arguments.scale, arguments.seed)
    print(json.dumps({**rows, "seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
