"""What can go wrong between a name and its bytes."""


class AssetError(RuntimeError):
    """No source gave the asset, or a given path cannot be used; the message says what was tried and how to go on."""


class ChecksumError(AssetError):
    """A file is not the one that was pinned; it has not been opened."""


class ArchiveError(AssetError):
    """An archive would write outside its folder, holds links, or unpacks to more than it may."""
