"""Settings of hardware. Cheap to import, like ``config``."""

from dataclasses import dataclass, field


@dataclass
class TrainerConfig:
    """Hardware."""

    accelerator: str = "auto"
    devices: int = 1
    """Processes on each node, each with a GPU of its own where there are GPUs."""
    nodes: int = 1
    """Machines; with more than one, srun or torchrun starts the processes."""
    strategy: str = "auto"
    """ddp (each process holds the whole model) or fsdp (they share out a language model that is trained whole); auto:
    ddp with several processes."""
    precision: str = "auto"
    """auto: bf16-mixed where the processor gains from it, else 32-true."""
    threads: int = 0
    """CPU threads of each process; 0: all cores, shared out."""
    log_every: int = 20
    compile: list[str] = field(default_factory=list)
    """Parts that torch compiles, for GPUs: any of adapter, text (phase 1's text branch) and lm; results stay."""
    activation_checkpointing: bool = False
    """Phase 2: the language model's layers keep their inputs alone: less memory, a third more time, results stay."""
