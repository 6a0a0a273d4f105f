"""Weights & Biases and TensorBoard, where they were asked for: one run a training phase, with what it was made from.

CSV files are written whatever is asked for (``engine/callbacks.py``, ``engine/samples.py``).
"""

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ilm_lightning.engine.artifacts import MANIFEST, RECIPE, SCRATCH, code_version, fingerprint
from ilm_lightning.engine.config import Config
from ilm_lightning.ranks import is_main
from ilm_lightning.reporting.text import redact
from ilm_lightning.reporting.wandb_login import offline_by_environment

log = logging.getLogger("ilm_lightning")
LOGGED = "logged.json"
"""In a run's folder: which results were handed to the loggers, so that a repeated command does not do it again."""


def axes(config: Config) -> list[str]:
    """Tags of a run: the axes of the paper's tables.

    >>> axes(Config())[-1]
    'seed=0'
    """
    losses = "+".join(config.pretraining.losses) if config.adapter.init == "pretrained" else "none"
    found = {
        "row": config.name,
        "encoder": _or_missing(config.encoder, "name"),
        "adapter": _or_missing(config.adapter, "kind"),
        "phase 1": losses,
        "tuning": _or_missing(config.tuning, "mode"),
        "queries": config.adapter.num_queries,
        "data": _or_missing(config.data, "name"),
        "seed": config.seed,
    }
    # W&B takes no longer tags
    return [f"{key}={value}"[:64] for key, value in found.items()]


def _or_missing(group: Any, key: str) -> str:
    value = getattr(group, key)
    return "?" if value == "???" else str(value)


def plain(value: Any) -> Any:
    """Plain data with secrets masked in every text.

    >>> plain({"body": ["api_key=abcdef123", 3]})
    {'body': ['api_key=***', 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): _named(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _named(key: str, value: Any) -> Any:
    """A value whose key may be what tells that it is a secret."""
    if isinstance(value, str):
        masked = redact(f"{key}={value}")
        return masked.removeprefix(f"{key}=") if masked.startswith(f"{key}=") else redact(value)
    return plain(value)


def group_of(config: Config) -> str:
    """What a run is compared within: its sweep, or its row of the table."""
    return config.logger.group or config.name


@dataclass(frozen=True)
class Tracker:
    """Loggers of one phase of one run.

    Attributes:
        config: the run's.
        run_folder: where local files go.
        artifacts: folder of all artefacts.
        phase: ``pretrain``, ``adapter``, ``tune`` or ``evaluate``.
    """

    config: Config
    run_folder: Path
    artifacts: Path
    phase: str

    @property
    def wanted(self) -> bool:
        """Whether any logger beside CSV was asked for."""
        return self.config.logger.wandb or self.config.logger.tensorboard

    @property
    def offline(self) -> bool:
        """Whether W&B stays off the network."""
        return self.config.logger.offline or offline_by_environment()

    def open(self, folder: Path) -> list[Any]:
        """Start loggers; a phase that continues from a checkpoint continues its W&B run.

        Args:
            folder: of the phase's checkpoints in an unfinished artefact; it keeps the W&B run's id.

        Returns:
            Lightning loggers.
        """
        if not self.wanted or not is_main():
            return []
        recipe = read_recipe(folder.parent.parent)
        stage = recipe.get("stage", self.phase)
        # trials and controls train under the phase's label too
        job_type = stage if stage == "trial" else self.phase
        facts = self.facts(recipe)
        opened: list[Any] = []
        if self.config.logger.wandb:
            logger = self._wandb(job_type, _kept_id(folder / "wandb-id.txt"), facts)
            _declare_inputs(logger.experiment, recipe, self.artifacts, self.offline)
            opened.append(logger)
        if self.config.logger.tensorboard:
            # a run may hold several trials
            mark = f"-{fingerprint(recipe)[:8]}" if stage == "trial" else ""
            opened.append(self._tensorboard(f"{self.config.name}-{job_type}{mark}", facts))
        return opened

    def close(self, loggers: Sequence[Any], folder: Path, finished: bool) -> None:
        """End loggers; a finished phase declares what it made.

        Args:
            loggers: from ``open``.
            folder: as there.
            finished: False where the phase was interrupted or failed.
        """
        for logger in loggers:
            if is_wandb(logger):
                if finished:
                    _log_artifact(logger.experiment, read_recipe(folder.parent.parent))
                logger.experiment.finish(exit_code=0 if finished else 1)
            else:
                logger.finalize("success" if finished else "failed")

    def facts(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """What stands beside the numbers: the whole configuration, lineage, versions, hardware."""
        from ilm_lightning.engine.hardware_report import hardware_report

        return {
            **plain(asdict(self.config)),
            "lineage": plain(dict(recipe.get("inputs", {}))),
            "versions": code_version(),
            "hardware": hardware_report(),
        }

    def _wandb(self, job_type: str, run_id: str, facts: Mapping[str, Any]) -> Any:
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        settings = self.config.logger
        try:
            run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                name=f"{self.config.name}-{job_type}-seed{self.config.seed}",
                id=run_id,
                group=group_of(self.config),
                job_type=job_type,
                tags=[*axes(self.config), *settings.tags],
                dir=self.run_folder,
                mode="offline" if self.offline else "online",
                config=dict(facts),
                resume=None if self.offline else "allow",
                # the metadata that W&B takes by itself holds the command line as it was typed; ours is masked
                settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, save_code=False),
            )
        except wandb.errors.Error as error:
            raise ValueError(
                f"Weights & Biases did not start a run: {redact(str(error))}; logger=wandb_offline needs no network"
            ) from error
        # the x axis of every panel: optimiser steps, not calls of the logger
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        where = f"wandb sync {str(run.dir).removesuffix('/files')}" if self.offline else run.url
        log.info("%-9s W&B run %s%s: %s", self.phase, run_id, ", offline" if self.offline else "", where)
        return WandbLogger(experiment=run)

    def _tensorboard(self, name: str, facts: Mapping[str, Any]) -> Any:
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(self.run_folder, name="tensorboard", version=name, default_hp_metric=False)
        logger.log_hyperparams(dict(facts))
        logger.experiment.add_text("config", f"```\n{json.dumps(facts, indent=1)}\n```", 0)
        log.info("%-9s tensorboard --logdir %s", self.phase, self.run_folder / "tensorboard")
        return logger

    def results(self, values: Mapping[str, float], tables: Mapping[str, "TableRows"], made: Mapping[str, str]) -> None:
        """Hand a finished run's results to the loggers, once.

        Args:
            values: name -> number.
            tables: name -> table.
            made: stage -> id of the artefact that the results rest on.
        """
        marker = self.run_folder / LOGGED
        state = {"made": dict(made), "logger": asdict(self.config.logger)}
        told = marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == state
        if told or not self.wanted or not is_main():
            return
        facts = self.facts({"inputs": made})
        if self.config.logger.wandb:
            logger = self._wandb(self.phase, _kept_id(self.run_folder / "wandb-id.txt"), facts)
            _declare_inputs(logger.experiment, {"inputs": made}, self.artifacts, self.offline)
            _log_results(logger, values, tables)
            logger.experiment.finish()
        if self.config.logger.tensorboard:
            logger = self._tensorboard(f"{self.config.name}-{self.phase}", facts)
            _log_results(logger, values, tables)
            logger.finalize("success")
        marker.write_text(json.dumps(state, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class TableRows:
    """A table of plain values."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


def is_wandb(logger: Any) -> bool:
    """Whether a Lightning logger is W&B's."""
    return hasattr(logger, "log_table")


def log_table(logger: Any, name: str, table: TableRows, step: int) -> None:
    """Hand a table to a logger: as a table to W&B, as text to TensorBoard.

    Args:
        logger: Lightning's.
        name: of the table.
        table: its rows, those of earlier steps included.
        step: optimiser step.
    """
    if is_wandb(logger):
        logger.log_table(name, columns=list(table.columns), data=table.rows, step=step)
        return
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in row) for row in table.rows]
    logger.experiment.add_text(name, "\n".join(lines), step)


def _log_results(logger: Any, values: Mapping[str, float], tables: Mapping[str, TableRows]) -> None:
    logger.log_metrics(dict(values), step=0)
    for name, table in tables.items():
        log_table(logger, name, table, 0)


def read_recipe(work: Path) -> dict[str, Any]:
    """Stage, settings and inputs of an artefact that is being built, or is there; empty where neither is."""
    for path in (work / SCRATCH / RECIPE, work / MANIFEST):
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            return {key: found[key] for key in ("stage", "settings", "inputs")}
    return {}


def _kept_id(path: Path) -> str:
    """The W&B run's id, kept beside the checkpoints: whoever continues from them continues that run."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _declare_inputs(run: Any, recipe: Mapping[str, Any], root: Path, offline: bool) -> None:
    """Tell W&B which artefacts a run reads; offline it cannot be told, and the configuration's lineage says it."""
    for name in recipe.get("inputs", {}).values() if not offline else ():
        made = read_recipe(root / str(name)) if "/" in str(name) else {}
        if made:
            run.use_artifact(_artifact(made))


def _log_artifact(run: Any, recipe: Mapping[str, Any]) -> None:
    if recipe:
        run.log_artifact(_artifact(recipe))


def _artifact(recipe: Mapping[str, Any]) -> Any:
    """An artefact as W&B knows it: what determines it, not its files, so that equal ones are one there."""
    import wandb

    text = json.dumps(plain(recipe), indent=1, sort_keys=True)
    made = wandb.Artifact(
        f"{recipe['stage']}-{fingerprint(recipe)}", type=str(recipe["stage"]), metadata={"inputs": recipe["inputs"]}
    )
    with made.new_file("recipe.json") as stream:
        stream.write(text)
    return made
