"""Two films side by side: what they share, what parts them, and what lies between."""

from collections.abc import Iterator
from dataclasses import dataclass

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.facts import AUDIENCES, CatalogContext, Film, Piece, main_countries, usable
from ilm_lightning.tasks.elm.opinions import BRISK, LONG, RATED, critic_score, foreign_language
from ilm_lightning.tasks.elm.vocabulary import DEMONYMS, GENRES, genre_label, known_countries
from ilm_lightning.tasks.elm.wording import article, listing

SCORE_GAP = 15  # points
LENGTH_GAP = 10  # minutes


@dataclass(frozen=True)
class Pair:
    """Two films and the pieces of text that concern both.

    Attributes:
        first: The film asked about.
        second: Its partner.
        pieces: "both.", "apart." and "blend." fields; kinds carry the prefix "1." or "2.".
    """

    first: Film
    second: Film
    pieces: dict[str, Piece]

    @classmethod
    def of(cls, first: Film, second: Film, context: CatalogContext) -> "Pair":
        """Compare two films that both have a genre label."""
        pieces = _cards(first, second) | _shared_genres(first, second) | _blend(first, second)
        for name, found in (
            ("both", _shared_facts(first.item, second.item, context)),
            ("apart", _differences(first.item, second.item, context)),
        ):
            for place, (kind, clause) in enumerate(found, start=1):
                pieces[f"{name}.fact{place}"] = _of_both(clause, kind)
        return cls(first, second, pieces)

    def lookup(self, name: str) -> Piece | None:
        """A field of the pair, or of one film by "1." or "2."."""
        side, _, rest = name.partition(".")
        if side not in ("1", "2"):
            return self.pieces.get(name)
        piece = (self.first if side == "1" else self.second).pieces.get(rest)
        return None if piece is None else (piece[0], frozenset(f"{side}.{kind}" for kind in piece[1]))


def _of_both(text: str, *kinds: str) -> Piece:
    return text, frozenset(f"{side}.{kind}" for side in "12" for kind in kinds)


def _cards(first: Film, second: Film) -> dict[str, Piece]:
    (one, kinds1), (two, kinds2) = first.pieces["card"], second.pieces["card"]
    kinds = frozenset(f"1.{kind}" for kind in kinds1) | frozenset(f"2.{kind}" for kind in kinds2)
    if one != two:
        return {
            "both.two": (f"{article(one)} and {article(two)}", kinds),
            "both.line": (f"the first film is {article(one)}, the second {article(two)}", kinds),
            "both.next": (article(two), frozenset(f"2.{kind}" for kind in kinds2)),
            "both.part": (f"part {one}, part {two}", kinds),
        }
    plural = one.replace(first.pieces["label"][0], first.pieces["plural"][0])
    return {
        "both.two": (f"two {plural}", kinds),
        "both.line": (f"the first and the second film are both {plural}", kinds),
        "both.part": (f"wholly {one}", kinds),
        "both.next": (f"another {one}", frozenset(f"2.{kind}" for kind in kinds2)),
    }


def _shared_genres(first: Film, second: Film) -> dict[str, Piece]:
    shared = tuple(name for name in first.genres if name in second.genres)
    pieces: dict[str, Piece] = {}
    if shared:
        words = [GENRES[name] for name in shared]
        pieces["both.kinds"] = _of_both(listing([entry.kind for entry in words]), "genre")
        pieces["both.plural"] = _of_both(genre_label(shared, plural=True), "genre")
        pieces["both.mood"] = _of_both(words[0].mood)
        for name in ("draw", "theme", "setting"):
            pieces[f"both.{name}"] = _of_both(getattr(words[0], name))
    (mood1, _), (mood2, _) = first.pieces["mood"], second.pieces["mood"]
    if mood1 != mood2:
        (one, _), (two, _) = first.pieces["card"], second.pieces["card"]
        clause = f"where the first film is {article(f'{mood1} {one}')}, the second is {article(f'{mood2} {two}')}"
        kinds = _cards(first, second)["both.line"][1]
        pieces["apart.moods"] = (clause, kinds)
    only = (
        [name for name in first.genres if name not in shared],
        [name for name in second.genres if name not in shared],
    )
    for side, names in zip("12", only, strict=True):
        if names:
            pieces[f"apart.draw{side}"] = _of_both(GENRES[names[0]].draw)
            pieces[f"apart.theme{side}"] = _of_both(GENRES[names[0]].theme)
            pieces["apart.draw"] = pieces[f"apart.draw{side}"]
    return pieces


def _blend(first: Film, second: Film) -> dict[str, Piece]:
    """Mix one genre of each film, one that the other lacks where there is one."""
    one = GENRES[next((name for name in first.genres if name not in second.genres), first.genres[0])]
    two = GENRES[next((name for name in second.genres if name not in first.genres), second.genres[0])]
    pieces: dict[str, Piece] = {}
    for name, join in (("setting", " beside "), ("draw", " next to "), ("theme", " as well as ")):
        phrases = dict.fromkeys((getattr(one, name), getattr(two, name)))
        pieces[f"blend.{name}"] = _of_both(join.join(phrases))
    moods = one.mood if one is two else f"{one.mood.split(' and ')[0]} and {two.mood.split(' and ')[0]}"
    pieces["blend.mood"] = _of_both(moods)
    if "decade" in first.pieces and "decade" in second.pieces:
        when = sorted({first.pieces["decade"][0], second.pieces["decade"][0]})
        pieces["blend.when"] = _of_both(
            f"in {when[0]}" if len(when) == 1 else f"between {when[0]} and {when[1]}", "era"
        )
    short, long = sorted((first.item.runtime or 0, second.item.runtime or 0))
    if short:
        span = f"about {long} minutes" if short == long else f"between {short} and {long} minutes"
        pieces["blend.length"] = _of_both(span, "length")
    return pieces


def _shared_facts(one: Item, two: Item, context: CatalogContext) -> Iterator[tuple[str, str]]:
    """Yield (kind, plural verb phrase) for each shared fact, most telling first."""
    for kind, verb, names in (
        ("director", "were directed by", [name for name in usable(one.directors) if name in two.directors]),
        ("cast", "feature", [name for name in usable(one.cast) if name in two.cast]),
    ):
        if names:
            yield kind, f"{verb} {names[0]}"
    language = foreign_language(one)
    if language and language == foreign_language(two):
        yield "language", f"have {language}-language dialogue"
    home = "United States"
    shared = [country for country in known_countries(one.countries) if country in known_countries(two.countries)]
    if shared and home not in shared:
        yield "nation", f"are {DEMONYMS[shared[0]]} productions"
    if one.year is not None and two.year is not None and one.year // 10 == two.year // 10:
        yield "era", f"come from the {one.year // 10 * 10}s"
    if one.oscars_won and two.oscars_won:
        yield "awards", "won Oscars"
    scores = (critic_score(one), critic_score(two))
    if scores[0] is not None and scores[1] is not None:
        low, high = sorted((scores[0], scores[1]))
        if low >= 60 or high < 40 or (low >= 40 and high < 60):
            words = "won over most critics" if low >= 60 else "were disliked by most critics"
            yield "reception", words if low >= 60 or high < 40 else "divided the critics"
    if context.following(one) == context.following(two):
        yield "audience", f"reached {AUDIENCES[context.following(one)]}"
    if one.runtime and two.runtime:
        if max(one.runtime, two.runtime) <= BRISK:
            yield "length", "are pleasantly short"
        elif min(one.runtime, two.runtime) >= LONG:
            yield "length", "take their time"
    if one.certificate == two.certificate and one.certificate in RATED:
        yield "certificate", f"are rated {one.certificate}"
    if home in shared:
        yield "nation", "are American productions"


def _differences(one: Item, two: Item, context: CatalogContext) -> Iterator[tuple[str, str]]:
    """Yield (kind, clause) for each fact that parts the two, most telling first."""
    nations = [main_countries(known_countries(item.countries)) for item in (one, two)]
    if nations[0] and nations[1] and not set(known_countries(one.countries)) & set(known_countries(two.countries)):
        names = [article(f"{'-'.join(DEMONYMS[country] for country in nation)} film") for nation in nations]
        yield "nation", f"the first is {names[0]}, the second {names[1]}"
    if one.year is not None and two.year is not None and one.year != two.year:
        decades = [f"the {item.year // 10 * 10}s" for item in (one, two) if item.year is not None]
        if decades[0] != decades[1]:
            yield "era", f"the first comes from {decades[0]}, the second from {decades[1]}"
        else:
            yield "era", f"the first dates from {one.year}, the second from {two.year}"
    scores = (critic_score(one), critic_score(two))
    if scores[0] is not None and scores[1] is not None and abs(scores[0] - scores[1]) >= SCORE_GAP:
        yield "reception", f"{scores[0]}% of critics liked the first, {scores[1]}% of critics the second"
    if one.runtime and two.runtime and abs(one.runtime - two.runtime) >= LENGTH_GAP:
        yield "length", f"the first runs {one.runtime} minutes, the second {two.runtime} minutes"
    crowds = [AUDIENCES[context.following(item)] for item in (one, two)]
    if crowds[0] != crowds[1]:
        yield "audience", f"the first reached {crowds[0]}, the second {crowds[1]}"
    directors = [usable(item.directors)[:1] for item in (one, two)]
    if directors[0] and directors[1] and directors[0] != directors[1]:
        yield "director", f"the first is by {directors[0][0]}, the second by {directors[1][0]}"
