"""Tags end to end: two ranks learn the case of words, and `formatter` writes each row in the case of its own tags."""

from pathlib import Path
from typing import Any

import torch

from .conftest import SAMPLE, Deepgen

SCENE = """
# Which words take capitals, with a tiny encoder.
task: seq2tag
model: scratch:encoder.yaml
train_dir: cased.tsv
eval_dir: cased_eval.tsv
predict_dir: cased_eval.tsv
train_header: query,tags,text
train_model_header: tag_tokenize:query:tags:tokens
predict_model_header: tag_tokenize:query:tokens
result_header: query
output_type: formatter
label_mapping: 0:0,1:1,2:2
eval_metrics: token_error_rate
source_max_length: 24
per_device_train_batch_size: 8
per_device_eval_batch_size: 7
num_train_epochs: 4
learning_rate: 5e-3
bf16: false
"""
CASES = {"0": str.lower, "1": lambda word: word[:1].upper() + word[1:].lower(), "2": str.upper}


def _cased(model: Any, tokenizer: Any, text: str) -> str:
    """A row by itself, with what the model folder says of the first piece of each word."""
    words = text.split()
    pieces = tokenizer(words, is_split_into_words=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        best = model(**pieces).logits[0].argmax(-1).tolist()
    tags: dict[int, str] = {}
    for place, word in enumerate(pieces.word_ids()):
        if word is not None:
            tags.setdefault(word, model.config.id2label[best[place]])
    return " ".join(CASES[tags[at]](word) if at in tags else word for at, word in enumerate(words))


def test_the_formatter_writes_what_two_ranks_learned(place: Path, deepgen: Deepgen) -> None:
    for name, file, rows in (("cased.tsv", "train.tsv", 1500), ("cased_eval.tsv", "eval.tsv", 61)):
        lines = (SAMPLE / "casing" / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (place / name).write_text("".join(lines[:rows]), encoding="utf-8")
    (place / "casing.yaml").write_text(SCENE, encoding="utf-8")
    deepgen("run", "casing.yaml", "--num_ranks", "2", "--tracking", "false")
    folder = place / "runs" / "casing"
    given = [line.split("\t") for line in (place / "cased_eval.tsv").read_text(encoding="utf-8").splitlines()]
    found = [line.split("\t") for line in (folder / "predict.txt").read_text(encoding="utf-8").splitlines()]
    assert [query for query, _ in found] == [query for query, _, _ in given]
    assert [text.lower() for _, text in found] == [query for query, _ in found]

    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert [text for _, text in found] == [_cased(model, tokenizer, query) for query, _ in found]
    wrong: dict[str, int] = dict.fromkeys(("formatter", "lower"), 0)
    for (query, text), (_, _, truth) in zip(found, given, strict=True):
        for name, tried in (("formatter", text), ("lower", query)):
            wrong[name] += sum(one != other for one, other in zip(tried.split(), truth.split(), strict=True))
    assert wrong["formatter"] < 0.8 * wrong["lower"], "better than to leave all as it is"
