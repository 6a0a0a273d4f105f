"""A tiny Llama that says one text: every word is followed by the next word of that text, whatever was asked."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SAYING = (
    "A quiet drama about people who want more than life will give them, told with patience, fine acting, careful "
    "pictures and a sad sort of humour that stays long after its last scene is over."
)


def parrot(folder: Path, saying: str = SAYING, end: bool = True) -> Path:
    """Save the model and its tokenizer.

    Args:
        folder: where to.
        saying: the text; a word that comes again must be followed by the same word.
        end: whether it ends; else the last word is said for ever.
    """
    words = list(dict.fromkeys(saying.split()))
    assert len(words) == len(saying.split()), "a word comes twice"
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<end>", *words])}
    core = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} <reply>"
    tokenizer.save_pretrained(folder)
    size = len(vocabulary)
    width = size + size % 2
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, width))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for token in range(size):
            # any unknown word, such as the prompt's last, is followed by the first word of the saying
            following = 2 if token == 0 else token + 1 if 1 < token < size - 1 else 1 if end else token
            model.lm_head.weight[following, token] = 1.0
    model.eval().save_pretrained(folder)
    return folder
