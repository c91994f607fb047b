"""A BERT of random weights with a vocabulary of its own: what tests tune and load in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer


def tiny_bert(folder: Path, words: Iterable[str], *, layers: int = 2, dim: int = 32) -> Path:
    """Write one as a folder that has no sentence-transformers configuration; returns the folder."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(words))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(
            BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=dim,
                num_hidden_layers=layers,
                num_attention_heads=2,
                intermediate_size=2 * dim,
                max_position_embeddings=32,
            )
        ).save_pretrained(folder)
    return folder
