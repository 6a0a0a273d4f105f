"""Which language models may share histories, and which settings of it determine an artefact."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_tiny import VOCAB, WIDTH, make_model, spread, tiny_llama
from transformers import MambaConfig, MambaForCausalLM

from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config import LMConfig, TuningConfig
from ilm_lightning.engine.stages.recommend_batches import TrainingBatches, check_sharing, tuning_that_matters

CONTEXT: Any = SimpleNamespace(
    config=SimpleNamespace(tuning=TuningConfig(mode="lora", history="shared"), lm=LMConfig(name="some-lm"))
)


def test_a_language_model_with_plain_attention_may_share() -> None:
    check_sharing(CONTEXT, make_model(), longest=500)
    short = tiny_llama()
    short.config.sliding_window = 500
    check_sharing(CONTEXT, make_model(lm=short), longest=500)
    short.config.sliding_window, short.config.use_sliding_window = 10, False
    check_sharing(CONTEXT, make_model(lm=short), longest=500)


def test_language_models_that_read_otherwise_are_refused() -> None:
    for name, value, message in (
        ("sliding_window", 499, "some-lm looks back 499 tokens in some layers, and examples have up to 500"),
        ("is_encoder_decoder", True, "has an encoder, whose words see the whole prompt"),
    ):
        lm = tiny_llama()
        setattr(lm.config, name, value)
        with pytest.raises(ConfigError, match=message):
            check_sharing(CONTEXT, make_model(lm=lm), longest=500)
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=1, state_size=4)
    with pytest.raises(
        ConfigError, match=r"tuning.history=shared: some-lm reads examples otherwise .*history=expanded"
    ):
        check_sharing(CONTEXT, make_model(lm=spread(MambaForCausalLM(config))), longest=500)


def test_settings_that_are_off_determine_nothing() -> None:
    plain, shared, blocks = (
        tuning_that_matters(TuningConfig(mode="lora", history=history, history_block=7))
        for history in ("expanded", "shared", "blocks")
    )
    assert not {"history", "history_block"} & set(plain)
    assert shared == {**plain, "history": "shared"}
    assert blocks == {**plain, "history": "blocks", "history_block": 7}


def test_the_report_says_what_was_read() -> None:
    def none(step: int) -> None:
        raise NotImplementedError

    apart = TrainingBatches(none, 100, 10, 50.0, 50.0, 500).report(5)
    assert apart == {"train_examples": 100, "epochs": 0.5, "mean_tokens": 50.0}
    assert TrainingBatches(none, 100, 10, 50.0, 20.0, 500).report(20) == {
        "train_examples": 100,
        "epochs": 2.0,
        "mean_tokens": 50.0,
        "mean_tokens_read": 20.0,
    }
