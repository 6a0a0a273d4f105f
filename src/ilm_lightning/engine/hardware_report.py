"""The machine that a number was measured on."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "lightning", "transformers", "peft", "sentence-transformers", "implicit", "polars")


def hardware_report() -> dict[str, Any]:
    """Processor, cores, memory, GPUs, and versions of the packages that compute."""
    import torch

    from ilm_lightning.hardware import available_memory, cpu_bf16, usable_cores

    memory = available_memory()
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "bf16": cpu_bf16(),
        "free_memory_gib": None if memory is None else round(memory / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": platform.system(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def processor_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123 - a device file
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
