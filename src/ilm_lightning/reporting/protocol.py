"""What has to be the same for two numbers to be compared: teacher, scorer, split, decoding, data, LLM, movies."""

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

from ilm_lightning.reporting.machines import encodes_in
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.scores import Scores

P = TypeVar("P", bound=Hashable)
WITHOUT = "none"
"""Instead of a second scorer's name."""


@dataclass(frozen=True, order=True)
class Protocol:
    """The fields that stand beside each number.

    Attributes:
        data: name of the data set and what was filtered from it.
        teacher: who wrote the targets.
        scorer: sentence encoder of SC.
        second_scorer: the other sentence encoder; without one other measures stand in for it.
        split: test or validation.
        decoding: how texts were generated.
        language_model: name of the LLM.
        prompt: whether titles stand in the prompts.
        movies: number of examples and movies, and a hash of examples and targets.
    """

    data: str
    teacher: str
    scorer: str
    second_scorer: str
    split: str
    decoding: str
    language_model: str
    prompt: str
    movies: str

    @property
    def validation(self) -> bool:
        """Whether this is the split that settings are chosen on."""
        return self.split.startswith("validation")

    def differing(self, other: "Protocol") -> tuple[str, ...]:
        """Names of the fields that differ."""
        ours, theirs = asdict(self), asdict(other)
        return tuple(key.replace("_", " ") for key in ours if ours[key] != theirs[key])

    def differences(self, other: "Protocol") -> str:
        """The fields that differ: ``teacher facts, not llm; …``."""
        ours, theirs = asdict(self), asdict(other)
        return "; ".join(f"{key} {ours[key]!r}, not {theirs[key]!r}" for key in ours if ours[key] != theirs[key])

    def lines(self) -> list[tuple[str, str]]:
        """Field and value, for a page."""
        return list(asdict(self).items())


def protocol_of(run: Run, scores: Scores | None) -> Protocol:
    """Collect a run's protocol.

    Args:
        run: the run.
        scores: of its predictions; None where they are not there.

    Returns:
        The protocol; a field that the run does not tell is ``"unknown"``.
    """
    stated, metrics = run.metrics["protocol"], run.metrics
    filtered = [f"{key}={run.setting(f'data.{key}')}" for key in ("min_ratings", "split_seed") if run.config]
    counted = f"{metrics.get('n_movies', '?')} movies, {metrics.get('n_examples', '?')} examples"
    second = str(metrics.get("second_scorer") or (WITHOUT if scores is None else "a second scorer without a name"))
    return Protocol(
        data=", ".join([str(stated.get("data", "unknown")), *filtered]),
        # the first version was long called by its bare name
        teacher="facts-1" if stated.get("teacher") == "facts" else str(stated.get("teacher", "unknown")),
        scorer=_scorer(run),
        second_scorer=WITHOUT if scores is not None and not scores.second_scorer else second,
        split=", ".join(str(stated[key]) for key in ("split", "split_rule") if key in stated) or "unknown",
        decoding=str(stated.get("decoding", "unknown")),
        language_model=str(stated.get("language_model", "unknown")),
        prompt="title in the prompt" if stated.get("title_in_prompt") else "no title in the prompt",
        movies=f"{counted} ({scores.fingerprint})" if scores else f"{counted} (which ones is not known)",
    )


def _scorer(run: Run) -> str:
    """Name and precision of the scorer; of an older run the precision in which its machine encodes, where known."""
    name = str(run.metrics.get("scorer") or "unknown")
    precision = run.metrics.get("scorer_precision") or encodes_in(run)
    return f"{name} in {precision}" if precision else name


def first_alone(run: Run) -> str:
    """Steps and seed with which the language model was trained before any adapter, or ``"none"``."""
    steps, seed = run.setting("tuning.lm_first_steps"), run.setting("tuning.lm_first_seed")
    told = "the run's seed" if seed is None else f"seed {seed}"
    return f"{steps} steps, {told}" if steps else WITHOUT


def letters(protocols: Iterable[P]) -> dict[P, str]:
    """Short names A, B, … of distinct protocols, in the given order."""
    return {protocol: _letter(place) for place, protocol in enumerate(dict.fromkeys(protocols))}


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else _letter(place // 26 - 1) + _letter(place % 26)
