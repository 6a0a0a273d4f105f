"""What a run's numbers owe to its machine: the precision it computed in, its processor, the code that ran."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ilm_lightning.reporting.runs import Problem, Run


def precision_of(run: Run) -> str | None:
    """What a run computed in: of ``trainer.precision=auto`` what its machine made of it.

    Returns:
        Lightning's name; ``auto`` where the machine is not known, None where the configuration is not.
    """
    asked = run.setting("trainer.precision")
    if asked is None or asked != "auto":
        return None if asked is None else str(asked)
    hardware = _hardware(run)
    told = hardware.get("precision")
    if isinstance(told, str):
        return told
    fast = _fast(run, _on_gpu(run))
    return "auto" if fast is None else "bf16-mixed" if fast else "32-true"


def encodes_in(run: Run) -> str | None:
    """Type in which a run's machine encodes texts unless told otherwise; None where the machine is not known."""
    fast = _fast(run, bool(_gpus(_hardware(run))))
    return None if fast is None else "bfloat16" if fast else "float32"


def _fast(run: Run, on_gpu: bool) -> bool | None:
    """Whether a run took bf16 by itself; on a GPU torch does wherever CUDA runs, if need be emulated."""
    told = True if on_gpu else _hardware(run).get("bf16")
    return told if isinstance(told, bool) else None


def threads_of(run: Run) -> int | None:
    """Threads that a run computed on; None where it does not tell, or computed on a GPU."""
    told = _hardware(run).get("threads")
    return told if isinstance(told, int) and not _on_gpu(run) else None


def processor_of(run: Run) -> str:
    """Name of the processor, and of the GPUs that were used; empty where the run does not tell."""
    hardware = _hardware(run)
    names = [hardware.get("processor"), *(_gpus(hardware) if _on_gpu(run) else ())]
    return ", ".join(dict.fromkeys(str(name) for name in names if name))


def made_by(run: Run) -> str:
    """Machine and code of one run, in words."""
    commits = ", ".join(sorted({commit[:12] + "-dirty" * commit.endswith("-dirty") for commit in run.commits}))
    return f"{run.hardware or 'machine not told'}, commit {commits or 'not told'}"


def repeated(run: Run, taken: Run) -> Problem:
    """Say that ``run`` does not count, and how it was made otherwise than ``taken``, which does."""
    ours, theirs = made_by(run), made_by(taken)
    how = f"both: {ours}" if ours == theirs else f"this one: {ours}; the one that counts: {theirs}"
    return Problem(run.name, f"the same settings and seed as {taken.name}; left out ({how})")


def several(rows: Sequence[tuple[str, Mapping[int, Run]]]) -> str:
    """Say which runs come from which processor.

    Args:
        rows: name and runs by seed of each row.

    Returns:
        ``AMD EPYC: ILM-MLP, ELM (seed 1); Intel Xeon: ELM (seed 0)``; empty where all runs that tell have one.
    """
    found: dict[str, list[str]] = {}
    for name, runs in rows:
        by_processor: dict[str, list[int]] = {}
        for seed in sorted(runs):
            if processor := processor_of(runs[seed]):
                by_processor.setdefault(processor, []).append(seed)
        for processor, seeds in by_processor.items():
            told = f"{name} ({_seeds(seeds)})" if len(by_processor) > 1 else name
            found.setdefault(processor, []).append(told)
    # of two columns with one name once
    lines = (f"{processor}: {', '.join(dict.fromkeys(found[processor]))}" for processor in sorted(found))
    return "; ".join(lines) if len(found) > 1 else ""


def _seeds(seeds: Iterable[int]) -> str:
    named = [str(seed) for seed in seeds]
    return f"seed{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _on_gpu(run: Run) -> bool:
    return bool(_gpus(_hardware(run))) and run.setting("trainer.accelerator") != "cpu"


def _gpus(hardware: Mapping[str, Any]) -> list[Any]:
    told = hardware.get("gpus")
    return told if isinstance(told, list) else []


def _hardware(run: Run) -> Mapping[str, Any]:
    told = run.facts.get("hardware")
    return told if isinstance(told, Mapping) else {}
