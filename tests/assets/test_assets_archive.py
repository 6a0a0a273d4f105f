import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from ilm_lightning.assets.archive import Limits, extract
from ilm_lightning.assets.errors import ArchiveError


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def _tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for info, data in entries:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def _tar_link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_whole_zip(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"top/a.txt": b"a", "top/deep/b.txt": b"b"})
    written = extract(archive, tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["out/top/a.txt", "out/top/deep/b.txt"]
    assert (tmp_path / "out/top/deep/b.txt").read_bytes() == b"b"
    assert _left(tmp_path) == ["a.zip", "out"]


def test_prefix_leaves_the_rest_out(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"ml/a.txt": b"a", "__MACOSX/ml/._a": b"junk", "mlx/b.txt": b"b"})
    extract(archive, tmp_path / "out", prefix="ml/")
    assert _left(tmp_path / "out") == ["a.txt"]


def test_members_are_renamed_and_nothing_else_is_taken(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.whl", {"pkg/data.bin": b"d", "pkg/__init__.py": b"raise SystemExit"})
    extract(archive, tmp_path / "out", members={"pkg/data.bin": "sub/data"})
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [tmp_path / "out/sub/data"]


def test_tar_with_dot_entries(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    archive = _tar(tmp_path / "a.tar.gz", (folder, b""), (tarfile.TarInfo("./x/a.txt"), b"a"))
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/x/a.txt").read_bytes() == b"a"


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:evil.txt", "a\nb.txt"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "zip":
        archive = _zip(tmp_path / "a.zip", {"good.txt": b"a", name: b"b"})
    else:
        archive = _tar(tmp_path / "a.tgz", (tarfile.TarInfo("good.txt"), b"a"), (tarfile.TarInfo(name), b"b"))
    with pytest.raises(ArchiveError, match="unsafe"):
        extract(archive, tmp_path / "room/out")
    assert _left(tmp_path / "room") == []
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    link = _tar_link("door", "/etc", kind)
    archive = _tar(tmp_path / "a.tgz", (link, b""), (tarfile.TarInfo("door/passwd"), b"x"))
    with pytest.raises(ArchiveError, match="link or a device"):
        extract(archive, tmp_path / "room/out")
    assert _left(tmp_path / "room") == []


def test_symlink_in_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("door")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc")
    with pytest.raises(ArchiveError, match="link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_bomb_is_stopped_by_what_it_writes(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"bomb": b"\0" * 5_000_000})
    assert archive.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="far more than its size"):
        extract(archive, tmp_path / "room/out")
    assert _left(tmp_path / "room") == []


@pytest.mark.parametrize(("limits", "words"), [(Limits(max_bytes=3), "far more"), (Limits(max_files=1), "more than 1")])
def test_caps(tmp_path: Path, limits: Limits, words: str) -> None:
    archive = _zip(tmp_path / "a.zip", {"a": b"aa", "b": b"bb"})
    with pytest.raises(ArchiveError, match=words):
        extract(archive, tmp_path / "out", limits=limits)


def test_repeated_name_is_refused(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tgz", (tarfile.TarInfo("A.txt"), b"a"), (tarfile.TarInfo("a.txt"), b"b"))
    with pytest.raises(ArchiveError, match="twice"):
        extract(archive, tmp_path / "out")


def test_missing_member_and_empty_prefix(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"a.txt": b"a"})
    with pytest.raises(ArchiveError, match=r"lacks b\.txt"):
        extract(archive, tmp_path / "out", members={"a.txt": "a", "b.txt": "b"})
    with pytest.raises(ArchiveError, match="lacks nowhere/"):
        extract(archive, tmp_path / "out", prefix="nowhere/")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", ["text", "truncated", "flipped"])
def test_damaged_archives(tmp_path: Path, spoil: str) -> None:
    archive = _zip(tmp_path / "a.zip", {"a.txt": bytes(range(256)) * 50})
    data = bytearray(archive.read_bytes())
    if spoil == "flipped":
        data[60] ^= 0xFF
    archive.write_bytes({"text": b"hello", "truncated": bytes(data[:100]), "flipped": bytes(data)}[spoil])
    with pytest.raises(ArchiveError, match="not a readable archive"):
        extract(archive, tmp_path / "room/out")
    assert _left(tmp_path / "room") == []


def test_existing_target_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArchiveError, match="exists already"):
        extract(_zip(tmp_path / "a.zip", {"a": b"a"}), tmp_path / "out")
