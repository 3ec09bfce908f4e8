"""Text encoders and tokenizers of the kinds that newer pipelines have, with small random weights, made here."""

import string
from typing import Any

import torch
from tiny_pipelines import TEXT
from transformers import (
    LlamaConfig,
    LlamaModel,
    LlamaTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

WIDTH = 2 * TEXT
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "max_position_embeddings": 4096,
}  # fmt: skip
_CHAT = "{% for each in messages %}<|im_start|>{{ each['role'] }}\n{{ each['content'] }}<|im_end|>\n{% endfor %}"


def qwen_tokenizer(*texts: str) -> Any:
    """Characters, and the words of these texts."""
    letters = dict.fromkeys([*string.ascii_letters, *string.digits, *string.punctuation, "Ġ", "Ċ"])
    found = Qwen2Tokenizer(vocab={each: index for index, each in enumerate(letters)}, merges=[])
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = _CHAT
    return _with_words(found, texts)


def llama_tokenizer(*texts: str) -> Any:
    names = dict.fromkeys(["<unk>", "<s>", "</s>", "▁", *string.printable])
    vocab = {each: index for index, each in enumerate(names)}
    return _with_words(LlamaTokenizerFast(vocab=vocab, merges=[], pad_token="</s>"), texts)


def _with_words(tokenizer: Any, texts: Any) -> Any:
    """Long templates would else be cut off before the prompt in them."""
    tokenizer.add_tokens(sorted({word for text in texts for word in text.split() if len(word) > 2 and "{" not in word}))
    return tokenizer


def llama() -> Any:
    return LlamaModel(LlamaConfig(**{**_SIZES, "num_hidden_layers": 3})).eval()


def qwen3(kind: Any = Qwen3Model, **changes: Any) -> Any:
    return kind(Qwen3Config(**{**_SIZES, "max_window_layers": 2, **changes})).eval()


def qwen3_causal(**changes: Any) -> Any:
    return qwen3(Qwen3ForCausalLM, **changes)


def qwen_vl() -> Any:
    text = {
        **_SIZES,
        "max_window_layers": 2,
        "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [2, 3, 3]},
    }
    text.pop("head_dim")
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()
