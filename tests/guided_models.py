"""Tiny encoder-decoders with latents, and what their answers are made of, row by row, for tests of `guided_seq2seq`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scratch_models
import torch
from scratch_models import ENCODER_DECODERS, SOURCES, TARGETS, TOKENS

from deepgen.kernel.contracts import Batch
from deepgen.kernel.pretrained import Pretrained
from deepgen.kernel.registry import find

K = 3
MODES = ("enc", "dec", "enc_dec")


def scratch(folder: Path, kind: str, **config: Any) -> Pretrained:
    return scratch_models.scratch(folder, kind, {**ENCODER_DECODERS[kind], **config}, SOURCES + TARGETS)


def task(**options: Any) -> Any:
    return find("model", "guided_seq2seq").plugin(**{"latent_class": K, **options})


def build(pretrained: Pretrained, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = task(**options)
    module = model.build(pretrained, TOKENS).eval()
    if pretrained.folder is None:
        scratch_models.spread(module, 0.5)
    return model, module


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def batch(pretrained: Pretrained, rows: tuple[int, ...] = (0, 1, 2)) -> Batch:
    tokenizer = pretrained.tokenizer
    ids = padded([tokenizer(SOURCES[row])["input_ids"] for row in rows], tokenizer.pad_token_id)
    labels = padded([tokenizer(TARGETS[row])["input_ids"] for row in rows], -100)
    return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long(), "labels": labels}


def by_hand(module: Any, pretrained: Pretrained, row: int, latent: int, mode: str) -> float:
    """-log p(y|x,z) of one row without padding, by the library's own forward pass."""
    inner, tokenizer = module.seq2seq, pretrained.tokenizer
    given = batch(pretrained, (row,))
    token = tokenizer.convert_tokens_to_ids(f"<latent_{latent}>")
    with torch.no_grad():
        states = inner.get_encoder()(input_ids=given["input_ids"]).last_hidden_state
        if "enc" in mode:
            vector = inner.get_input_embeddings()(torch.tensor([[token]]))
            vector = vector / vector.norm() * states.norm(dim=2).mean()
            states = torch.cat([vector, states], 1)
        labels = given["labels"][0].tolist()
        start = module.seq2seq.generation_config.decoder_start_token_id
        if inner.config.model_type == "mbart":  # it starts with the last token of the target, its language
            start = labels[-1]
        front = [start, token] if "dec" in mode else [start]
        decoder = torch.tensor([front + labels[:-1]])
        logits = inner(encoder_outputs=(states,), decoder_input_ids=decoder).logits[0].log_softmax(-1)
    return -sum(float(logits[len(front) - 1 + place, label]) for place, label in enumerate(labels))


def classifiers(module: Any, given: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log prior and log posterior of each row by itself."""
    with torch.no_grad():
        encoder = module.seq2seq.get_encoder()
        rows = []
        for ids, mask, labels in zip(given["input_ids"], given["attention_mask"], given["labels"], strict=True):
            states = encoder(input_ids=ids[mask.bool()][None]).last_hidden_state
            prior = module.prior(states.mean(1)).log_softmax(1)
            embedded = module.seq2seq.get_input_embeddings()(labels[labels != -100][None])
            convolution, classifier = module.posterior
            window = torch.relu(convolution(embedded.transpose(1, 2))).mean(2)
            rows.append((prior, classifier(window).log_softmax(1)))
    return torch.cat([prior for prior, _ in rows]), torch.cat([posterior for _, posterior in rows])
