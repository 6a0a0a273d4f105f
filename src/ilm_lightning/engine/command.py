"""Hydra entry of every command: finds ``conf/``, composes, checks, and turns user errors into one clear message."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from ilm_lightning.engine.command_line import check_settings, conf_dir, open_mapping, split_options, told
from ilm_lightning.engine.composition import register_schema
from ilm_lightning.engine.config import Config, as_config
from ilm_lightning.engine.interruptions import closed_pipe, leave, stop_signals
from ilm_lightning.engine.runs import stored_config
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.engine.validate_machine import check_plugins
from ilm_lightning.progress import BesideBars
from ilm_lightning.reporting.text import redact

log = logging.getLogger("ilm_lightning")
USER_ERRORS = (ValueError, OSError, RuntimeError, ArithmeticError)
"""Told as one line, without a stack trace."""
FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's own switch: its errors with all that led to them."""


def setup_logging() -> None:
    """Plain messages on standard error; libraries only from warnings on."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[BesideBars()], force=True)
    log.setLevel(os.environ.get("ILM_LOG_LEVEL", "INFO"))
    for handler in logging.getLogger().handlers:
        handler.addFilter(mask_secrets)
    # bars of loading weights would tear our own lines apart
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # DDP's advice on unused parameters, which come and go with the kind of batch
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # what libraries will change one day is nothing that a user can act on
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def mask_secrets(record: logging.LogRecord) -> bool:
    """Keep keys and tokens out of a message, whoever wrote it."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def load_run_config(resume: str, outputs: str) -> Config:
    """Read the stored configuration of an earlier run.

    Args:
        resume: name or folder of the run.
        outputs: folder of runs.

    Returns:
        The configuration the run was started with.

    Raises:
        ConfigError: there is no such run, or its file is damaged.
    """
    for folder in (Path(resume), Path(outputs) / resume):
        if (folder / "config.yaml").is_file():
            stored = stored_config(folder)
            # the folder is the run's name from now on, whatever its configuration would be called today
            return replace(stored, run=folder.name, outputs=str(folder.parent), resume=None)
    known = sorted(path.parent.name for path in Path(outputs).glob("*/config.yaml"))
    raise ConfigError(f"resume={resume}: no such run under {outputs}; there are: {', '.join(known) or 'none'}")


def _only_resume(arguments: Sequence[str]) -> None:
    others = [a for a in arguments if "=" in a and not a.startswith(("resume=", "outputs=", "hydra."))]
    if others:
        raise ConfigError(
            f"resume takes the run's stored configuration; leave out {', '.join(others)}, or start a new run with it"
        )


def check_data(config: Config) -> None:
    """Look at the user's own files, so that what is wrong with them is told in the first second.

    Raises:
        DataError: a missing file or column; of small files also wrong rows, or too few.
    """
    data = config.data
    if data.kind != "custom" and not data.path:
        return
    if data.kind == "custom":
        from ilm_lightning.engine.validate_custom import check_custom_files

        check_custom_files(data)
    elif data.kind == "openp5":
        from ilm_lightning.engine.validate_openp5 import check_openp5_rows

        check_openp5_rows(config)
    else:
        from ilm_lightning.data.load import check_files

        check_files(data.kind, {"ratings": Path(data.path or "")})


def _read_command_line(in_turn: bool) -> None:
    """Check what was typed and put it into ``sys.argv`` as Hydra wants it; ``in_turn`` as in ``hydra_command``."""
    options, settings = split_options(sys.argv[1:])
    if in_turn and {"-m", "--multirun"} & set(options):
        settings.append("hydra/launcher=basic")
    # options last: --info takes the word after it as its own
    sys.argv[1:] = [*map(open_mapping, settings), *options]
    check_settings(settings, options)
    check_plugins(sys.argv[1:])


def hydra_command(config_name: str, task: Callable[[Config], float], in_turn: bool = False) -> int:
    """Compose the configuration from the command line and run a task on it.

    Args:
        config_name: file under ``conf/`` without ``.yaml``.
        task: what to do with the typed configuration; its return value is the objective of sweepers.
        in_turn: a sweep (``-m``) calls ``task`` here, one configuration after another; the configured launcher would
            start training runs.

    Returns:
        Exit status: 0, 1 after a user error whose message was printed, or that of the signal which ended it.

    Raises:
        SystemExit: whoever reads standard output has left.
    """
    setup_logging()
    register_schema()

    failures: list[str] = []
    try:
        _read_command_line(in_turn)
    except ConfigError as error:
        log.error("error: %s", error)
        return 1

    def wrapped(node: DictConfig) -> float:
        # Hydra would print a stack trace around a user's error, so it is caught and told here
        try:
            config = as_config(node)
            if config.resume is not None:
                _only_resume(sys.argv[1:])
                config = load_run_config(config.resume, config.outputs)
            validate(config)
            check_data(config)
            return task(config)
        except USER_ERRORS as error:
            if os.environ.get("ILM_TRACEBACK"):
                raise
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                # a job of a launcher that calls this function; a sweeper reads from the exception that it failed
                raise CompactHydraException(str(error)) from None
            failures.append(str(error))
            log.error("error: %s", error)
            return float("nan")

    try:
        with closed_pipe(), stop_signals(), _hydras_errors_raised():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(wrapped)()
    except KeyboardInterrupt as error:
        return leave(error)
    except (CompactHydraException, *USER_ERRORS) as error:
        # of a sweep also what its launcher stumbled on, such as a full disk
        if os.environ.get("ILM_TRACEBACK") or os.environ.get(FULL_ERROR) == "1":
            raise
        log.error("error: %s", told(error))
        return 1
    return 1 if failures else 0


@contextmanager
def _hydras_errors_raised() -> Iterator[None]:
    """Have Hydra raise errors in a ``with`` block: it would print them, with advice on a stack trace, and exit."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(FULL_ERROR)
        if before is not None:
            os.environ[FULL_ERROR] = before
