"""Terms under which the assets come, in short; the binding text is at each licence's address."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """Terms of an asset.

    Attributes:
        name: short name.
        terms: what one may and may not do, in short.
        url: where the binding text is.
        citation: what to cite, empty when nothing is asked for.
        restricted: use or copying is limited (shown as a warning, not as information).
    """

    name: str
    terms: str
    url: str = ""
    citation: str = ""
    restricted: bool = False

    def text(self) -> str:
        """All of it as one line for a log."""
        parts = [self.name + ":", self.terms, f"Text: {self.url}" if self.url else "", self.citation]
        return " ".join(part for part in parts if part)


_MOVIELENS_CITATION = (
    "Cite: F. M. Harper, J. A. Konstan (2015), The MovieLens Datasets: History and Context, ACM TiiS 5(4):19, "
    "doi:10.1145/2827872."
)
_MOVIELENS_COMMON = (
    "Research use; no commercial use without GroupLens' permission; publications must acknowledge the data; "
    "no endorsement may be implied; no warranty."
)

APACHE_2 = Licence(
    "Apache-2.0",
    "Free use, change and redistribution with the licence and notices kept; no warranty.",
    "https://www.apache.org/licenses/LICENSE-2.0",
)
CC0 = Licence("CC0-1.0", "Public domain.", "https://creativecommons.org/publicdomain/zero/1.0/")
MOVIELENS_SHARED = Licence(
    "MovieLens, share alike",
    _MOVIELENS_COMMON + " Redistribution, also of derived data, only under these same terms.",
    "https://files.grouplens.org/datasets/movielens/ml-latest-small-README.html",
    _MOVIELENS_CITATION,
    restricted=True,
)
MOVIELENS_CLOSED = Licence(
    "MovieLens, no redistribution",
    _MOVIELENS_COMMON + " No redistribution without separate permission.",
    "https://grouplens.org/datasets/movielens/",
    _MOVIELENS_CITATION,
    restricted=True,
)
YOURS = Licence("unknown", "Files given by path: their own terms hold.")
THEIRS = Licence("unknown", "A model of the hub: the terms on its page hold.")
