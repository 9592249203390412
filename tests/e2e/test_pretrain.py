"""From a masked language model to a classifier: the model folder of the one is where the other starts."""

import json
from pathlib import Path

import torch

from .conftest import Deepgen, at_once

SCENE = """
# Missing words, with a tiny encoder.
task: pretrain
model: scratch:encoder.yaml
train_dir: train.tsv
eval_dir: eval.tsv
train_header: text,label
train_model_header: mlm_tokenize:text:tokens
eval_metrics: perplexity,masked_acc
source_max_length: 32
per_device_train_batch_size: 8
num_train_epochs: 2
learning_rate: 5e-3
bf16: false
"""


def test_a_classifier_goes_on_from_a_masked_language_model(place: Path, deepgen: Deepgen) -> None:
    (place / "pretrain.yaml").write_text(SCENE, encoding="utf-8")
    deepgen("run", "pretrain.yaml", "--num_ranks", "2", "--tracking", "false", "--zero_stage", "3")
    folder = place / "runs" / "pretrain"
    assert set(json.loads((folder / "metrics.json").read_text())) == {
        "eval_loss",
        "eval_perplexity",
        "eval_masked_acc",
    }

    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    learned, found = AutoModelForMaskedLM.from_pretrained(folder / "model", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["mismatched_keys"]
    assert learned.get_output_embeddings().weight is learned.get_input_embeddings().weight

    (place / "gaps.tsv").write_text("a [MASK] film\nnothing is missing\n", encoding="utf-8")
    flags = ("--model", str(folder / "model"), "--tracking", "false", "--max_steps", "1", "--learning_rate", "0")
    masked = ("--predict_dir", "gaps.tsv", "--predict_header", "text", "--num_ranks", "2", "--output_dir", "filled")
    at_once(
        deepgen,
        ["run", "sentiment.yaml", *flags, "--do_eval", "false", "--do_predict", "false"],
        ["predict", "--from", str(folder / "model"), *masked],
    )
    classifier = AutoModelForSequenceClassification.from_pretrained(place / "runs" / "sentiment" / "model")
    before, after = learned.bert.state_dict(), classifier.bert.state_dict()
    assert set(before) < set(after)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, msg=name)

    lines = (place / "filled" / "predict.txt").read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].split("\t")[0] == "nothing is missing"
    assert "[MASK]" not in lines[0]
