"""The words a genre stands for: one entry a genre, with phrases that hold for nearly every film of that genre.

A phrase of one genre never uses the name of another, so that the genres named in a text are the genres of its film.
The grammar of each field is fixed, which lets a sentence plan place any genre's phrase in the same spot.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class GenreWords:
    """The vocabulary of one genre.

    Attributes:
        name: Canonical genre name, MovieLens spelling where MovieLens has the genre.
        modifier: Form before another genre's noun ("romantic" in "romantic comedy").
        noun: Form as the head of a label ("thriller", "horror film").
        plural: Plural of `noun`.
        kind: The genre as a thing ("romance", "science fiction").
        pattern: Regular expression that finds the genre named in lower-case text.
        premise: Clause, present tense: what such a film is about.
        setting: Noun phrase: where it takes us.
        mood: Two adjectives.
        draw: Noun phrase: what people come for.
        theme: Noun phrase: what it thinks about.
        praise: Clause of praise.
        fault: Clause of blame.
        gripe: Another clause of blame.
        risk: Noun phrase: what may put viewers off.
        good: Three short noun phrases of praise.
        bad: Three short noun phrases of blame.
        gag: Clause with "would": the film played for laughs.
        sorrow: Clause with "would": the film made sadder.
        dread: Clause with "would": the film made scarier.
        fix: Imperative: how to improve it.
        viewer: Noun phrase, plural: who will like it.
        hook: Noun phrase: the image that sells it.
        tonight: Clause in the second person: the pleasure of watching it.
        surprise: Clause: what it offers a doubter.
        warn: Clause in the second person: the pain of watching it.
        skip: Noun phrase, plural: who should stay away.
    """

    name: str
    modifier: str
    noun: str
    plural: str
    kind: str
    pattern: str
    premise: str
    setting: str
    mood: str
    draw: str
    theme: str
    praise: str
    fault: str
    gripe: str
    risk: str
    good: tuple[str, str, str]
    bad: tuple[str, str, str]
    gag: str
    sorrow: str
    dread: str
    fix: str
    viewer: str
    hook: str
    tonight: str
    surprise: str
    warn: str
    skip: str
