"""Code blocks of the documentation."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").rglob("README.md")])
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("" where none is named) and text."""

    page: Path
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(page, m[2], m[3]) for m in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[list[str]]:
    """Every command line of a page, comments left out, lines that end in a backslash joined."""
    found = []
    for block in blocks(page):
        if block.language not in ("", "bash", "sh", "console"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(python|make|wandb|tensorboard|torchrun|pip|srun|sbatch|docker|git|curl)\s", line):
                found.append(shlex.split(line, comments=True))
    return found


def module_and_arguments(command: list[str]) -> tuple[str, list[str]] | None:
    """``ilm_lightning.x`` and what follows, of any command that starts it."""
    for place, part in enumerate(command[:-1]):
        if part == "-m" and command[place + 1].startswith("ilm_lightning"):
            return command[place + 1], command[place + 2 :]
    return None
