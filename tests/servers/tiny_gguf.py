"""Writes a llama of random numbers, small enough to load in no time: `python tiny_gguf.py FILE`, with gguf and numpy.

One layer, 64 floats wide, a vocabulary of bytes and some words. What it says is nonsense, and the same each time.
"""

from __future__ import annotations

import sys

import gguf
import numpy as np

WIDTH, HEADS, INNER, CONTEXT = 64, 4, 128, 2048
WORDS = [f"\u2581{word}" for word in "the a of to and in is it you that sky blue".split()]


def main(path: str) -> None:
    kind = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{n:02X}>" for n in range(256)] + ["\u2581", *WORDS]
    types = (
        [kind.UNKNOWN, kind.CONTROL, kind.CONTROL]
        + [kind.BYTE] * 256
        + [kind.NORMAL] * (1 + len(WORDS))
    )
    draw = np.random.default_rng(1)

    def tensor(*shape: int) -> np.ndarray:
        return (draw.standard_normal(shape) * 0.2).astype(np.float32)

    out = gguf.GGUFWriter(path, "llama")
    out.add_name("tiny")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(1)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_scores([-float(n) for n in range(len(tokens))])
    out.add_token_types([int(t) for t in types])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    out.add_tensor("token_embd.weight", tensor(len(tokens), WIDTH))
    ones = np.ones(WIDTH, dtype=np.float32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        out.add_tensor(f"blk.0.{name}.weight", tensor(WIDTH, WIDTH))
    out.add_tensor("blk.0.attn_norm.weight", ones)
    out.add_tensor("blk.0.ffn_norm.weight", ones)
    out.add_tensor("blk.0.ffn_gate.weight", tensor(INNER, WIDTH))
    out.add_tensor("blk.0.ffn_up.weight", tensor(INNER, WIDTH))
    out.add_tensor("blk.0.ffn_down.weight", tensor(WIDTH, INNER))
    out.add_tensor("output_norm.weight", ones)
    out.add_tensor("output.weight", tensor(len(tokens), WIDTH))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main(sys.argv[1])
