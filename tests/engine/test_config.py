import re
import resource
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException

from ilm_lightning.engine.command import conf_dir, load_run_config
from ilm_lightning.engine.command_line import check_settings, split_options, told
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config, PretrainingConfig
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.reporting import paper
from warm import run_command

GROUPS = sorted(p.name for p in conf_dir().iterdir() if p.is_dir())
OPTIONS = sorted(f"{p.parent.name}={p.stem}" for p in conf_dir().glob("*/*.yaml"))


def test_every_group_and_option_is_found() -> None:
    assert GROUPS == [
        "adapter", "budget", "data", "encoder", "evaluation", "experiment", "hydra", "lm", "logger", "pretraining",
        "sweep", "tasks", "teacher", "trainer", "tuning",
    ]  # fmt: skip
    assert {str(p.relative_to(conf_dir() / "hydra")) for p in (conf_dir() / "hydra").rglob("*.yaml")} == {
        "launcher/processes.yaml", "launcher/slurm.yaml", "launcher/ray_tasks.yaml", "sweeper/search.yaml",
    }  # fmt: skip
    assert len(OPTIONS) == len(list(conf_dir().rglob("*.yaml"))) - 1 - 4
    assert len(OPTIONS) >= 70


APART = tuple(option for option in OPTIONS if option.startswith(("experiment=", "sweep=")))
TOGETHER = (
    "adapter=constant budget=laptop data=custom encoder=behavioral evaluation=full lm=smollm2_135m teacher=facts",
    "adapter=mlp budget=long data=ml_100k encoder=combined evaluation=paper logger=csv tuning=lora trainer=auto",
    "adapter=qformer budget=tables data=ml_1m encoder=semantic evaluation=quick logger=tensorboard pretraining=it",
    "adapter=qformer_bert budget=tiny data=ml_latest_small logger=wandb pretraining=it_ii tasks=elm trainer=cpu",
    "adapter=qformer_random data=movielens_small logger=wandb_offline tasks=figure1 trainer=ddp",
    "pretraining=it_ui teacher=lm trainer=ddp_multinode tuning=frozen",
    "data=ml_25m pretraining=grounded tasks=genome trainer=fsdp tuning=full",
    "adapter=custom evaluation=tables pretraining=paper teacher=endpoint trainer=gpu",
    "evaluation=figure3 pretraining=vg_only",
    "adapter=collm data=openp5",
    "adapter=perceiver data=openp5_beauty",
    "data=openp5_clothing lm=t5",
    "data=openp5_ml100k tasks=openp5",
    "data=openp5_ml1m",
)
"""The other options, each once, beside those that it goes with."""
NEEDED = {
    "data=openp5": ("data.name=mine",),
    "adapter=custom": ("adapter._target_=json.Adapter",),
    "teacher=endpoint": ("teacher.url=http://127.0.0.1:9/v1", "teacher.model=any"),
}


def test_every_option_is_composed() -> None:
    assert sorted([*APART, *" ".join(TOGETHER).split()]) == OPTIONS


@pytest.mark.parametrize("options", [*APART, *TOGETHER])
def test_every_option_composes_and_is_valid(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    chosen = options.split()
    extra = [setting for option in chosen for setting in NEEDED.get(option, ())]
    if "data=custom" in chosen:
        for name in ("interactions", "items"):
            (tmp_path / f"{name}.csv").write_text("x\n")
            extra.append(f"data.{name}={tmp_path / name}.csv")
    if "openp5" in options and "sweep" not in options:
        lines = ("sequential; seen; {history} ?; {target}", "sequential; unseen; {history} !; {target}")
        (tmp_path / "prompt.txt").write_text("\n".join(lines))
        extra += [f"tasks.prompts={tmp_path / 'prompt.txt'}", f"data.path={tmp_path}", "data.items=null"]
    config = composed(*chosen, *extra)
    validate(config)
    if adapter := next((option for option in chosen if option.startswith("adapter=")), ""):
        assert config.adapter.init == "random" or "qformer" in adapter


@pytest.mark.parametrize("chosen", ["budget=tables", "budget=long", "sweep=table3", "sweep=figure3"])
def test_what_is_evaluated_can_be_chosen_beside_a_budget(chosen: str) -> None:
    assert composed(chosen, "evaluation=paper").evaluation == composed("evaluation=paper").evaluation


@pytest.mark.slow
def test_axes_combine() -> None:
    axes = product(
        ("semantic", "behavioral", "combined"), ("mlp", "qformer", "qformer_random"), ("frozen", "lora", "full")
    )
    for encoder, adapter, tuning in axes:
        config = composed(f"encoder={encoder}", f"adapter={adapter}", f"tuning={tuning}", "adapter.num_queries=4")
        validate(config)
        assert (config.encoder.name, config.tuning.mode, config.adapter.num_queries) == (encoder, tuning, 4)


ROWS: list[tuple[str, str, str, str, list[str] | None]] = [
    ("elm", "mlp", "random", "full", None),
    ("ilm_mlp", "mlp", "random", "frozen", None),
    ("ilm_mlp_1token", "mlp", "random", "frozen", None),
    ("ilm_mlp_vg", "mlp", "pretrained", "frozen", ["vg"]),
    ("ilm_mlp_vg_cd_rw", "mlp", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_cd", "qformer", "bert", "frozen", None),
    ("ilm_qformer_rw", "qformer", "bert", "frozen", None),
    ("ilm_qformer_cd_rw", "qformer", "bert", "frozen", None),
    ("ilm_qformer_vg_cd", "qformer", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_vg_rw", "qformer", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_vg_cd_rw", "qformer", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_random", "qformer", "random", "frozen", None),
    ("ilm_qformer_random_vg", "qformer", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_bert", "qformer", "bert", "frozen", None),
    ("ilm_it", "qformer", "pretrained", "frozen", ["itc", "itm", "itg"]),
    ("ilm_it_ii", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic"]),
    ("ilm_it_ui", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "uic"]),
    ("ilm_qformer_s4", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic"]),
    ("ilm_qformer_concat", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic"]),
    ("ilm_qformer_source_dropout", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic"]),
    ("ilm_qformer", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic"]),
    ("ilm_qformer_grounded", "qformer", "pretrained", "frozen", ["itc", "itm", "itg", "iic", "vg"]),
    ("ilm_qformer_vg", "qformer", "pretrained", "frozen", ["vg"]),
    ("ilm_qformer_vg_lora", "qformer", "pretrained", "lora", ["vg"]),
    ("ilm_qformer_lora", "qformer", "pretrained", "lora", ["itc", "itm", "itg", "iic"]),
    ("ilm_qformer_full", "qformer", "pretrained", "full", ["itc", "itm", "itg", "iic"]),
]


@pytest.mark.parametrize(("experiment", "adapter", "init", "mode", "losses"), ROWS)
def test_experiments_are_the_papers_rows(
    experiment: str, adapter: str, init: str, mode: str, losses: list[str] | None
) -> None:
    config = composed(f"experiment={experiment}")
    assert config.name == experiment
    assert (config.adapter.kind, config.adapter.init, config.tuning.mode) == (adapter, init, mode)
    assert losses is None or config.pretraining.losses == losses
    text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    assert len(text.splitlines()) <= 40
    for part in ("# Row: ", f"# Command: python -m ilm_lightning.train experiment={experiment}\n", "# Hardware: "):
        assert part in text


def test_a_rows_tables_are_those_that_print_it() -> None:
    for experiment, *_ in ROWS:
        text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
        row = re.search(r"^# Row: (\S+) \(tables ([\d, and]+)", text, re.MULTILINE)
        if row is None or row[1].startswith("ILM-IT"):
            continue
        # Table 2 prints the fully finetuned Q-Former under its vectors' names
        printed = [n for n in ("3", "9", "10") if row[1] in paper.table(n).columns]
        second = row[1] == "ELM" or row[1].endswith("-fullyfinetune")
        assert re.findall(r"\d+", row[2]) == ["2"] * second + printed, experiment


def test_signals_are_crossed_with_all_else_equal() -> None:
    crossed: list[Config] = []
    for vg, cd, rw in product((False, True), repeat=3):
        parts = [name for name, on in (("vg", vg), ("cd", cd), ("rw", rw)) if on]
        row = "_".join(["ilm_qformer", *parts]) if parts else "ilm_qformer_bert"
        config = composed(f"experiment={row}", *([] if parts else ["adapter.source_tokens=4"]))
        assert (config.adapter.init == "pretrained") == vg
        assert (config.tuning.distillation_weight > 0, config.tuning.residual_weighting) == (cd, rw)
        same = replace(
            config,
            name="",
            adapter=replace(config.adapter, init=""),
            pretraining=PretrainingConfig(),
            tuning=replace(config.tuning, distillation_weight=0.0, residual_weighting=False),
        )
        crossed.append(same)
    assert all(same == crossed[0] for same in crossed)


OPENP5: list[tuple[str, str, str, str, str, bool, int]] = [
    ("openp5_ilm", "qformer", "pretrained", "lora", "none", True, 0),
    ("openp5_ilm_it", "qformer", "pretrained", "lora", "none", True, 0),
    ("openp5_ilm_it_ui", "qformer", "pretrained", "lora", "none", True, 0),
    ("openp5_ilm_rand", "qformer", "random", "lora", "none", True, 0),
    ("openp5_mlp", "mlp", "random", "lora", "none", True, 0),
    ("openp5_mlp_1token", "mlp", "random", "lora", "none", True, 0),
    ("openp5_text", "constant", "random", "lora", "none", False, 0),
    ("openp5_text_full", "constant", "random", "full", "none", False, 0),
    ("openp5_encoder_decoder", "constant", "random", "full", "none", False, 0),
    ("openp5_collm", "collm", "random", "frozen", "fold_in", True, 300),
    ("openp5_user_llm", "perceiver", "random", "lora", "history", False, 0),
]


@pytest.mark.parametrize(("experiment", "adapter", "init", "mode", "user", "soft_tokens", "first"), OPENP5)
def test_recommenders_are_the_papers_rows(
    experiment: str, adapter: str, init: str, mode: str, user: str, soft_tokens: bool, first: int, tmp_path: Path
) -> None:
    config = composed(f"experiment={experiment}", f"data.path={tmp_path}", "data.items=null", "tasks.prompts=p.txt")
    assert (config.name, config.data.name, config.tasks.kind, config.encoder.name) == (
        experiment, "ML100K", "openp5", "behavioral",
    )  # fmt: skip
    assert (config.adapter.kind, config.adapter.init, config.tuning.mode) == (adapter, init, mode)
    assert (config.tasks.user_vector, config.tasks.soft_tokens) == (user, soft_tokens)
    assert config.tuning.lm_first_steps == first
    text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    for part in ("# Row: ", f"# Command: python -m ilm_lightning.train experiment={experiment}\n", "# Hardware: "):
        assert part in text


@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
def test_an_encoder_decoder_brings_its_layers(tuning: str, tmp_path: Path) -> None:
    data = [f"data.path={tmp_path}", "data.items=null", "tasks.prompts=p.txt"]
    config = composed("experiment=openp5_encoder_decoder", f"tuning={tuning}", "lm.name=owner/t5", *data)
    assert config.tuning.lora_targets == ["q", "v", "o", "wo"]
    assert (config.tuning.mode, config.lm.name, config.tasks.soft_tokens) == (tuning, "owner/t5", False)
    assert composed("lm=t5").lm.name == "google/flan-t5-small"


def test_every_experiment_is_a_tested_row() -> None:
    assert {p.stem for p in (conf_dir() / "experiment").glob("openp5*.yaml")} == {row[0] for row in OPENP5}
    mine = {p.stem for p in (conf_dir() / "experiment").glob("*.yaml") if p.stem.startswith(("elm", "ilm_"))}
    assert mine == {row[0] for row in ROWS}


@pytest.mark.parametrize("adapter", ["mlp", "qformer", "qformer_random", "qformer_bert"])
def test_figure_3s_axis_sweeps_cleanly(adapter: str) -> None:
    from ilm_lightning.adapters import MLPAdapter, build_adapter, count_parameters
    from ilm_lightning.engine.stages.pretrain import adapter_settings

    first = composed("experiment=ilm_qformer", f"adapter={adapter}", "adapter.num_queries=1")
    for queries in (1, 2, 4, 8, 16, 32):
        config = replace(first, adapter=replace(first.adapter, num_queries=queries))
        validate(config)
        dims = {"behavioral": 64, "semantic": 384}
        with torch.device("meta"):
            built = build_adapter(adapter_settings(config.adapter, dims, 576))
            twin = build_adapter(adapter_settings(replace(config.adapter, kind="qformer"), dims, 576))
        assert built.num_queries == queries
        assert isinstance(built, MLPAdapter) == (adapter == "mlp")
        assert count_parameters(built) == pytest.approx(count_parameters(twin), rel=0.02)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretraining.losses=[itc,foo]"], "pretraining.losses=foo"),
        (["adapter.num_queries=0"], r"adapter.num_queries=0 must be above 0"),
        (["adapter=mlp", "adapter.init=bert"], "needs a Q-Former"),
        (["adapter=mlp", "adapter.init=pretrained"], "set pretraining=vg_only or adapter=qformer"),
        (["adapter=constant", "adapter.init=pretrained", "pretraining=vg_only"], "needs a Q-Former"),
        (["pretraining.losses=[itm]"], "add itc"),
        (["pretraining=it", "pretraining.shuffled_pairs=true"], "has neither; add one, or leave it out"),
        (["tuning.distillation_weight=-1"], "at least 0"),
        (["adapter=constant", "tuning.distillation_weight=1"], "adapter=constant reads none"),
        (["adapter=constant", "tuning.residual_weighting=true"], "adapter=constant reads none"),
        (["tuning.lm_first_steps=-1"], "give 0 steps for none"),
        (["tuning.lm_first_steps=5", "tuning.lm_first_lr=0"], "a rate above 0"),
        (["tuning.residual_clip=[1]"], "a lowest and a highest loss"),
        (["tuning.residual_clip=[2,1]"], "a lowest and a highest loss"),
        (["tuning.residual_steps=10"], "add tuning.residual_weighting=true"),
        (["tuning.residual_weighting=true", "tuning.residual_steps=0"], "needs a trained blind model"),
        (["adapter=mlp", "adapter.dropout=0.3"], "adapter=mlp has no dropout"),
        (["tuning.lr_trials=[0,1e-3]"], "must be above 0"),
        (["tuning.lr_trials=[1e-3,1e-3]"], "there twice"),
        (["tuning.lr_trials=[1e-3]", "tuning.trial_steps=5000"], "more than tuning.steps"),
        (["tuning.distillation_tokens=0"], "must be above 0"),
        (["tasks.kind=openp5", "tuning.lr_trials=[1e-3]"], "belongs to the language tasks"),
        (["tasks.kind=openp5", "tuning.adapter_first_share=0.5"], "belongs to the language tasks"),
        (["pretraining.pair_projection=both"], "own, shared"),
        (["pretraining.init=gpt"], "bert, random"),
        (["++pretraining.loss_weights.ict=2"], "pretraining.loss_weights=ict"),
        (["++pretraining.loss_weights.iic=0"], "leave the loss out instead"),
        (["adapter.concatenate=true", "encoder=semantic"], "needs encoder=combined"),
        (["adapter.num_heads=5"], "not divisible"),
        (["data=custom"], "data.interactions=FILE"),
        (["data=custom", "data.interactions=nowhere.csv"], "nowhere.csv: there is no such file"),
        (["lm.name=/no/where"], "lm.name=/no/where: there is no such folder$"),
        (["data.path=/no/where"], "/no/where"),
        (["++assets.film-facts=/no/where"], "no such file"),
        (["++assets.film-fact=/"], "no asset is called so; .* did you mean film-facts"),
        (["evaluation.conditions=[shuffled]"], "must hold 'own'"),
        (["encoder=semantic", "pretraining.source_dropout=0.5"], "needs encoder=combined"),
        (["encoder.name=both"], "semantic, behavioral, combined"),
        (["tuning.mode=qlora"], "frozen, lora, full"),
        (["adapter.num_heads=0"], "adapter.num_heads=0 must be above 0"),
        (["tasks.names=[haiku]"], "tasks.names=haiku"),
        (["encoder.text_fields=[plot]"], "encoder.text_fields=plot"),
        (["++pretraining.proportions.foo=1"], "proportions.foo"),
        (
            ["tasks.title_in_prompt=true"],
            r"with evaluation\.conditions=\[own,shuffled,constant,knn_copy\]",
        ),
        (["data.interactions=x.csv"], "add data=custom"),
        (["tasks=genome"], "has no genome scores; take data=ml_25m"),
        (["tasks.kind=figure1"], "movielens-small has no genome scores"),
        (["data=ml_25m", "tasks.names=[genome_tags]"], "set data.genome_in_text=false"),
        (["tasks.user_history=0"], "tasks.user_history=0 must be above 0"),
        (["data.split=loose"], "choose one of: strict, paper, cold"),
        (["data.split=cold", "tasks.neighbour_space=behavioral"], "set tasks.neighbour_space=semantic"),
        (["tasks.interpolation=three"], "mean, two_items"),
        (["trainer.devices=4000", "trainer.accelerator=cpu"], "each is a process"),
        (["trainer.devices=2", "trainer.accelerator=cpu", "tuning.batch_size=1"], "cannot be shared by 2 processes"),
        (["trainer.strategy=dp"], "trainer.strategy=dp"),
        (["trainer.nodes=0"], "trainer.nodes=0 must be above 0"),
        (["trainer.accelerator=warp"], "trainer.accelerator=warp"),
        (["trainer.precision=half"], "trainer.precision=half"),
        (["trainer.log_every=0"], "trainer.log_every=0 must be above 0"),
        (["trainer.compile=[adapter,head]"], "trainer.compile=head"),
        (["seed=-1"], "seed=-1 must be at least 0"),
        (["tuning.weight_decay=-1"], "tuning.weight_decay=-1.0 must be at least 0"),
        (["tuning.warmup_steps=-5"], "tuning.warmup_steps=-5"),
        (["++pretraining.proportions.item_text=-1"], "pretraining.proportions.item_text=-1.0"),
        (["pretraining.label_smoothing=1"], "must lie in"),
        (["encoder.text_fields=[]"], "encoder.text_fields is empty"),
        (["encoder.als.regularization=-1"], "encoder.als.regularization"),
        (["run=../elsewhere"], "a name under outputs"),
        (["outputs=/dev/null/here"], "outputs=/dev/null/here cannot be written"),
    ],
)
def test_impossible_settings_name_the_key_and_the_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(composed(*overrides))


def test_repeated_lists_agree_with_their_owners() -> None:
    from ilm_lightning.data.item import TEXT_FIELDS
    from ilm_lightning.data.splits import RULES
    from ilm_lightning.engine import validate as checks
    from ilm_lightning.tasks.elm import TASKS
    from ilm_lightning.tasks.figure1 import FIGURE1_TASKS

    assert checks.TASKS == TASKS
    assert checks.FIGURE1_TASKS == FIGURE1_TASKS
    assert set(checks.TEXT_FIELDS) == set(TEXT_FIELDS)
    assert tuple(RULES) == checks.SPLIT_RULES


def test_a_key_forced_into_the_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Key 'stepz' not in 'TuningConfig'"):
        composed("+tuning.stepz=3")
    with pytest.raises(ValueError, match="Key 'foo' not in 'Config'"):
        composed("++foo.bar=3")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tuning.steps=many", "tuning.steps must be a whole number, got 'many'"),
        ("tuning.steps=1.5", "tuning.steps must be a whole number, got 1.5"),
        ("tuning.lr_trials=[1e-3,a]", "tuning.lr_trials[1] must be a number, got 'a'"),
        ("tasks.title_in_prompt=perhaps", "tasks.title_in_prompt must be true or false, got 'perhaps'"),
        ("tasks.names=summary", "tasks.names must be a list, as [a,b], got 'summary'"),
        ("seed=null", "seed must be given, got None"),
        ("data.columns=user", "data.columns must be a mapping, written KEY.NAME=VALUE, got 'user'"),
        ("data.columns=5", "data.columns must be a mapping, written KEY.NAME=VALUE, got 5"),
        ("run={a:1}", "run must be a text, got {'a': 1}"),
    ],
)
def test_wrong_type_is_a_clear_error(setting: str, message: str) -> None:
    with pytest.raises(HydraException) as error:
        composed(setting)
    assert told(error.value) == message


@pytest.mark.parametrize("value", ["[1", "a[", "a b(c", "'a", '"a'])
def test_a_value_that_cannot_be_read_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"name: {value!r} cannot be read")):
        check_settings(["seed=1", f"name={value}"])


@pytest.mark.parametrize("value", ["héllo", "a&b", "a=b", "a;b"])
def test_signs_that_need_quotes_are_told_without_brackets(value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read: give text that holds such signs in quotes"):
        check_settings([f"name={value}"])
    check_settings([f'name="{value}"'])


@pytest.mark.parametrize(
    "setting",
    ["tuning={steps: 3, val_every: 3, batch_size: 4}", "adapter=choice(mlp,qformer)", "encoder=glob(*)", "lm=[t5]"],
)
def test_choices_in_hydras_grammar_are_left_to_hydra(setting: str) -> None:
    check_settings([setting])


@pytest.mark.parametrize(
    "value", ["[1,2]", "'a b(c'", '"a, b"', "1,2", "null", "", "choice(1,2)", "/a b/c.csv", "{a:1}"]
)
def test_values_in_hydras_grammar_are_left_to_hydra(value: str) -> None:
    check_settings([f"data.path={value}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adapter.num_querys=3"], "did you mean adapter.num_queries"),
        (["zzz=3"], "no setting zzz"),
        # Hydra's + would add a key that nothing reads
        (["+tuning.stepz=3"], "no setting tuning.stepz; did you mean tuning.steps"),
        (["experiment=nope"], "ilm_qformer_grounded"),
        (["tuning=5"], "tuning=5: there is no such choice; there are frozen, full, lora"),
        (["adapter=null"], "adapter=null: there is no such choice; there are collm"),
        (["tuning.steps=0"], "tuning.steps=0 must be above 0"),
        (["resume=nothing"], "no such run"),
        (["experiment", "ilm_qformer"], "error: experiment has no value: write experiment=ilm_qformer\n"),
        (["seed=1", "experiment", "=", "elm"], "error: experiment has no value: write experiment=VALUE\n"),
        (["seed=0", "--seed=1"], "error: there is no option --seed=1; write seed=1, without dashes"),
        (["seed=[1"], "error: seed: '[1' cannot be read: close its brackets"),
        (["outputs/run"], "error: 'outputs/run' is no setting: write KEY=VALUE"),
        (["tuning.steps=abc"], "error: tuning.steps must be a whole number, got 'abc'\n"),
        (["tasks.names=[sumary]"], "user_profile; did you mean summary?\n"),
        (["evaluation.conditions=[own,shufled]"], "title, facts; did you mean shuffled?\n"),
        (["pretraining.loss_weights.ict=8"], "pretraining.loss_weights=ict"),
        (["resume=nothing", "seed=3"], "leave out seed=3"),
        (["assets.film-facts=/no/where"], "/no/where: there is no such file"),
    ],
)
def test_command_line_errors_are_short(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run_command("ilm_lightning.train", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_within_three_seconds_and_imports_nothing_heavy(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "ilm_lightning.train", "--cfg", "job", "experiment=ilm_qformer"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "name: ilm_qformer" in done.stdout
    # of the processor, whatever else the machine does
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime < 3
    # options without settings, and between them
    assert "name: ilm_qformer" in run_command("ilm_lightning.train", "--cfg", "job", cwd=tmp_path).stdout
    both = run_command("ilm_lightning.train", "seed=7", "--cfg", "job", "name=mine", cwd=tmp_path).stdout
    # an option that may take a word after it
    assert split_options(["seed=7", "--info"]) == (["--info"], ["seed=7"])
    assert split_options(["--info", "seed=7"]) == (["--info", "all"], ["seed=7"])
    assert "seed: 7\n" in run_command("ilm_lightning.train", "--info", "seed=7", cwd=tmp_path).stdout
    assert "name: mine\nseed: 7\n" in both
    heavy = ("torch", "lightning", "transformers", "polars")
    code = f"import sys, ilm_lightning.train; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_stored_configuration_is_read_back(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    config = composed("experiment=ilm_mlp", "seed=7")
    folder = tmp_path / "mine"
    folder.mkdir()
    OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
    expected = replace(config, run="mine", outputs=str(tmp_path))
    assert load_run_config("mine", str(tmp_path)) == expected
    assert load_run_config(str(folder), "elsewhere") == expected
    with pytest.raises(ConfigError, match="there are: mine"):
        load_run_config("other", str(tmp_path))
