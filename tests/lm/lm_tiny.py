"""Tiny random models and a byte tokenizer; nothing is downloaded."""

from collections.abc import Callable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from ilm_lightning.adapters import build_adapter
from ilm_lightning.lm import Backbone, ItemLanguageModel, LMReference, Tuning, apply_tuning
from ilm_lightning.lm.attention import choose_attention

WIDTH, VOCAB, QUERIES, ITEMS = 32, 260, 3, 12

CHAT = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nDefault.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(chat: str | None = None) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<|im_start|>": 0, "<|im_end|>": 1} | {letter: place + 2 for place, letter in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    # as in SmolLM2: the pad token is the end token
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = chat
    return tokenizer


def tiny_llama(**changes: object) -> nn.Module:
    settings: dict[str, object] = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    torch.manual_seed(0)
    config = LlamaConfig(**(settings | changes))
    if "attn_implementation" not in changes:
        # as load_backbone sets it on a CPU, so that a model read from a folder computes the very same
        config._attn_implementation = choose_attention(config)
    return spread(LlamaForCausalLM(config))


def tiny_gpt2() -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=512, bos_token_id=0, eos_token_id=1
    )
    return spread(GPT2LMHeadModel(config))


def tiny_qwen() -> nn.Module:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
    )
    return spread(Qwen2ForCausalLM(config))


T5_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 48,
    "num_heads": 4,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}


def tiny_t5(tied: bool = True) -> nn.Module:
    """T5 as first published (one matrix reads and writes words), or as FLAN-T5 (a vocabulary head of its own)."""
    torch.manual_seed(0)
    feed_forward = {} if tied else {"feed_forward_proj": "gated-gelu"}
    # transformers ties whatever the config says, and takes from it whether to scale
    lm = T5ForConditionalGeneration(T5Config(**(T5_SIZES | {"tie_word_embeddings": tied} | feed_forward)))  # type: ignore[arg-type]
    # T5's embeddings are large from the start: its texts differ without enlarging
    return (lm if tied else own_head(lm)).eval()


def tiny_flan() -> nn.Module:
    return tiny_t5(tied=False)


def tiny_mt5() -> nn.Module:
    torch.manual_seed(0)
    return own_head(MT5ForConditionalGeneration(MT5Config(**T5_SIZES))).eval()  # type: ignore[arg-type]


def own_head(lm: nn.Module) -> nn.Module:
    head: nn.Linear = lm.get_output_embeddings()  # type: ignore[operator]
    head.weight = nn.Parameter(torch.randn_like(head.weight) * 0.5)
    return lm


ENCODER_DECODERS: dict[str, Callable[[], nn.Module]] = {"t5": tiny_t5, "flan": tiny_flan, "mt5": tiny_mt5}


def spread(lm: nn.Module) -> nn.Module:
    """Enlarge random weights, so that different inputs give clearly different texts."""
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return lm.eval()


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {"llama": tiny_llama, "gpt2": tiny_gpt2, "qwen": tiny_qwen}


def make_model(
    tuning: Tuning = Tuning.FROZEN, lm: nn.Module | None = None, queries: int = QUERIES
) -> ItemLanguageModel:
    torch.manual_seed(1)
    config = {"kind": "mlp", "source_dims": {"semantic": 6, "behavioral": 4}, "output_dim": WIDTH, "hidden_width": 16}
    adapter = build_adapter(config | {"num_queries": queries})
    wrapped = apply_tuning(tiny_llama() if lm is None else lm, tuning)
    return ItemLanguageModel(adapter, Backbone(wrapped, tuning, torch.float32, LMReference("tiny"))).eval()
