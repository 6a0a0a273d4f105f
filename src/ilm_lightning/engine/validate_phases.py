"""Checks of the settings of both phases."""

from importlib.util import find_spec

from ilm_lightning.engine.checks import ConfigError, one_of
from ilm_lightning.engine.config import AdapterConfig, Config

LOSSES = ("itc", "itm", "itg", "iic", "uic", "vg")


def check_phase1(config: Config) -> None:
    """Check that adapter, its start and the losses of phase 1 belong together.

    Raises:
        ConfigError: names the key, its value and what to set instead.
    """
    adapter, pretraining = config.adapter, config.pretraining
    one_of("pretraining.init", pretraining.init, ("bert", "random"))
    _check_own(adapter)
    if adapter.kind in ("mlp", "custom") and adapter.init == "pretrained" and list(pretraining.losses) != ["vg"]:
        raise ConfigError(
            f"adapter.init=pretrained with adapter.kind={adapter.kind}: vocabulary grounding is the one loss that "
            "needs no queries; set pretraining=vg_only or adapter=qformer, not "
            f"pretraining.losses={list(pretraining.losses)}"
        )
    fits = {
        "qformer": ("pretrained", "bert", "random"),
        "mlp": ("pretrained", "random"),
        "custom": ("pretrained", "random"),
    }.get(adapter.kind, ("random",))
    if adapter.init not in fits:
        raise ConfigError(
            f"adapter.init={adapter.init} needs a Q-Former, but adapter.kind={adapter.kind}; "
            "set adapter.init=random or adapter=qformer"
        )
    if adapter.init == "pretrained" and not pretraining.losses:
        raise ConfigError("adapter.init=pretrained needs pretraining.losses; or take adapter=qformer_bert")
    if pretraining.shuffled_pairs and not {"iic", "uic"} & set(pretraining.losses):
        raise ConfigError(
            f"pretraining.shuffled_pairs=true shuffles the pairs of iic and uic, but pretraining.losses="
            f"{list(pretraining.losses)} has neither; add one, or leave it out"
        )
    if "itm" in pretraining.losses and "itc" not in pretraining.losses:
        raise ConfigError("pretraining.losses: itm draws its hard negatives from itc's similarities; add itc")
    for loss, weight in pretraining.loss_weights.items():
        one_of("pretraining.loss_weights", loss, LOSSES)
        if weight <= 0:
            raise ConfigError(f"pretraining.loss_weights.{loss}={weight} must be above 0; leave the loss out instead")
    if adapter.concatenate and config.encoder.name != "combined":
        raise ConfigError("adapter.concatenate joins two sources and needs encoder=combined")


OF_LANGUAGE_TASKS = ("distillation_weight", "residual_weighting", "lr_trials", "adapter_first_share")
"""Settings of ``tuning`` that the language tasks alone have."""


def _check_own(adapter: AdapterConfig) -> None:
    """An adapter of one's own: its module is looked for, not yet imported, which would load torch."""
    if adapter.kind != "custom":
        if adapter._target_ or adapter.settings:
            raise ConfigError("adapter._target_ and adapter.settings belong to an adapter of your own: adapter=custom")
        return
    module = (adapter._target_ or "").rpartition(".")[0]
    if not module:
        raise ConfigError(
            f"adapter=custom needs adapter._target_=module.Class, as my_adapters.GatedAdapter, not {adapter._target_}"
        )
    try:
        found = find_spec(module)
    except ImportError:
        found = None
    if found is None:
        raise ConfigError(
            f"adapter._target_={adapter._target_}: there is no module {module}; run the command in the folder of "
            f"{module}.py, or put that folder on PYTHONPATH"
        )
    if clash := sorted({"source_dims", "output_dim", "num_queries", "target", "kind"} & set(adapter.settings)):
        raise ConfigError(f"adapter.settings.{clash[0]}: this is given by the run; leave it out")


def check_phase2(config: Config) -> None:
    """Check the signals and trials of phase 2.

    Raises:
        ConfigError: names the key, its value and what to set instead.
    """
    tuning, kind = config.tuning, config.adapter.kind
    if tuning.distillation_weight < 0:
        raise ConfigError(f"tuning.distillation_weight={tuning.distillation_weight} must be at least 0")
    ours = {
        "tuning.distillation_weight": bool(tuning.distillation_weight),
        "tuning.residual_weighting": tuning.residual_weighting,
    }
    for key, on in ours.items():
        if on and kind == "constant":
            raise ConfigError(
                f"{key} teaches what an item's vector holds, but adapter=constant reads none; switch it off"
            )
    for key in OF_LANGUAGE_TASKS if config.tasks.kind == "openp5" else ():
        if value := getattr(tuning, key):
            raise ConfigError(f"tuning.{key}={value} belongs to the language tasks; leave it out with tasks=openp5")
    if tuning.lm_first_steps < 0 or tuning.lm_first_lr <= 0:
        raise ConfigError(
            f"tuning.lm_first_steps={tuning.lm_first_steps}, lm_first_lr={tuning.lm_first_lr}: "
            "give 0 steps for none, or a number above 0, and a rate above 0"
        )
    clip = list(tuning.residual_clip)
    if len(clip) != 2 or not 0 < clip[0] <= clip[1]:
        raise ConfigError(f"tuning.residual_clip={clip}: give a lowest and a highest loss above 0, as [0.1,5.0]")
    if tuning.residual_steps is not None:
        if not tuning.residual_weighting:
            raise ConfigError(
                "tuning.residual_steps is the budget of residual weighting: add tuning.residual_weighting=true"
            )
        if tuning.residual_steps <= 0:
            raise ConfigError(
                f"tuning.residual_steps={tuning.residual_steps}: residual weighting needs a trained blind model; "
                "give it steps, or null for as many as the variant"
            )
    if any(rate <= 0 for rate in tuning.lr_trials):
        raise ConfigError(f"tuning.lr_trials={list(tuning.lr_trials)}: every value must be above 0")
    if len(set(tuning.lr_trials)) != len(tuning.lr_trials):
        raise ConfigError(f"tuning.lr_trials={list(tuning.lr_trials)}: a value is there twice")
    if tuning.lr_trials and tuning.trial_steps > tuning.steps:
        raise ConfigError(
            f"tuning.trial_steps={tuning.trial_steps} is more than tuning.steps={tuning.steps}: a trial is a short run"
        )
