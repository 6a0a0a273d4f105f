"""Judged ratings: each user's latest ones, known to no vector, by which answers about the user are measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.splits import group_position
from ilm_lightning.data.tables import Interactions

# Ours: one rating in five, so that a user's vector still rests on four fifths of what is known.
SHARE = 5
MOST = 10
FEWEST = 3
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Judged:
    """Interactions in two parts.

    Attributes:
        history: what vectors, phase 1 and prompts may see.
        judged: the judged ratings; over the same users and items.
    """

    history: Interactions
    judged: Interactions


@dataclass(frozen=True)
class UserRatings:
    """One user's ratings, oldest first.

    Attributes:
        user: index of the user.
        user_id: the user's id in the source files.
        items: [n] catalogue rows of the history.
        ratings: [n] their ratings.
        judged_items: [m] catalogue rows of the judged ratings, m >= 1.
        judged: [m] these ratings.
    """

    user: int
    user_id: str
    items: NDArray[np.int64]
    ratings: NDArray[np.float64]
    judged_items: NDArray[np.int64]
    judged: NDArray[np.float64]


def set_judged_apart(interactions: Interactions, users: int | None = None) -> Judged:
    """Take each user's latest ratings out: one in five, at most 10; users with fewer than 15 ratings keep all.

    Args:
        interactions: one event per user and item. The ratings' values decide nothing here.
        users: judge at most this many users, drawn by a hash of their ids; None for all.

    Returns:
        History and judged ratings.

    Raises:
        DataError: no user has enough ratings.
    """
    user = interactions.frame["user"].to_numpy().astype(np.int64)
    counts = np.bincount(user, minlength=interactions.n_users)
    quota = np.minimum(counts // SHARE, MOST)
    quota[quota < FEWEST] = 0
    if users is not None and np.count_nonzero(quota) > users:
        able = np.flatnonzero(quota)
        # another hash than the split's of "user ...": the lowest of that one are training users alone
        drawn = sorted(able, key=lambda row: group_position(f"judged {interactions.user_ids[row]}", 0))
        quota[drawn[users:]] = 0
    if not quota.any():
        raise DataError(
            f"no user has {SHARE * FEWEST} ratings: tasks about users judge one rating in {SHARE} and at least "
            f"{FEWEST}; bring more ratings per user or leave rating, next_item and user_profile out of tasks.names"
        )
    order = _in_time(interactions, user)
    ends = np.cumsum(counts)[user[order]]
    mark = np.zeros(len(user), dtype=np.bool_)
    mark[order] = np.arange(len(user)) >= ends - quota[user[order]]
    parts = (interactions.frame.filter(~mark), interactions.frame.filter(mark))
    return Judged(*(Interactions(part, interactions.user_ids, interactions.n_items) for part in parts))


def check_values(interactions: Interactions, tasks: Sequence[str], name: str, ratings: bool, times: bool) -> None:
    """Check that the events say what tasks about users read.

    Args:
        interactions: the events.
        tasks: names of the tasks, for the message.
        name: name of the data, for the message.
        ratings: whether the tasks read the ratings' values.
        times: whether they read the order in time.

    Raises:
        DataError: ratings or timestamps are missing.
    """
    listed = ", ".join(tasks)
    missing = int(interactions.frame["rating"].is_nan().sum())
    if ratings and missing:
        raise DataError(
            f"{listed}: {missing} of {len(interactions)} interactions of {name} have no rating value; bring a rating "
            "column (data.columns.rating=NAME for your own data) or leave these tasks out of tasks.names"
        )
    if times and interactions.frame["timestamp"].n_unique() < 2:
        raise DataError(
            f"{listed}: all interactions of {name} have the same time, so none is the next; bring a timestamp column "
            "(data.columns.timestamp=NAME for your own data) or leave these tasks out of tasks.names"
        )


def user_ratings(history: Interactions, judged: Interactions) -> Iterator[UserRatings]:
    """Go through the users that have judged ratings.

    Args:
        history: what may be known of them.
        judged: their judged ratings.

    Yields:
        One entry a user, in index order.
    """
    known, asked = _by_user(history), _by_user(judged)
    for user in np.unique(judged.frame["user"].to_numpy()):
        mine, theirs = (slice(*part[2][int(user) : int(user) + 2]) for part in (known, asked))
        yield UserRatings(
            int(user),
            history.user_ids[int(user)],
            known[0][mine],
            known[1][mine],
            asked[0][theirs],
            asked[1][theirs],
        )


def _by_user(interactions: Interactions) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Items and ratings ordered by user and time, and where each user's begin."""
    user = interactions.frame["user"].to_numpy().astype(np.int64)
    order = _in_time(interactions, user)
    starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=interactions.n_users))])
    frame = interactions.frame.select(pl.col("item").cast(pl.Int64), pl.col("rating").cast(pl.Float64))
    return frame["item"].to_numpy()[order], frame["rating"].to_numpy()[order], starts


def _in_time(interactions: Interactions, user: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order events by user and time; among equal times by a hash, which favours no item."""
    item = interactions.frame["item"].to_numpy().astype(np.uint64)
    mixed = (user.astype(np.uint64) * np.uint64(interactions.n_items) + item + np.uint64(1)) * _ODD
    mixed ^= mixed >> np.uint64(29)
    return np.lexsort((mixed * _ODD, interactions.frame["timestamp"].to_numpy(), user))
