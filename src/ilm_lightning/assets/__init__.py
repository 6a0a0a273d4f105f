"""Where bytes come from: pretrained weights and raw data by name, as verified local folders with known terms."""

from .errors import ArchiveError, AssetError, ChecksumError
from .fetch import ResolvedAsset, resolve
from .registry import REGISTRY, Asset

__all__ = ["REGISTRY", "ArchiveError", "Asset", "AssetError", "ChecksumError", "ResolvedAsset", "resolve"]
