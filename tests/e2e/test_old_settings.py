"""Settings that the original had, in one run: special tokens are written, the least loss chooses, `previous_dir`."""

from __future__ import annotations

import json
from pathlib import Path

from deepgen.kernel.events import read_events

from .conftest import Deepgen, at_once

GREETINGS = """
task: seq2seq
model: scratch:encoder_decoder.yaml
train_dir: greetings.tsv
eval_dir: greetings.tsv
train_header: name,greeting
train_model_header: s2s_tokenize:name:greeting:tokens
predict_model_header: s2s_tokenize:name:tokens
special_tokens: <name>,<end of it>
eval_metrics: eval_loss,exact_match
eval_strategy: steps
eval_steps: 6
logging_steps: 3
num_train_epochs: 8
per_device_train_batch_size: 8
learning_rate: 1e-2
max_new_tokens: 6
bf16: false
tracking: false
cache_dir: kept
logging_dir: curves
"""


def test_special_tokens_the_least_loss_and_the_model_before(place: Path, deepgen: Deepgen) -> None:
    (place / "greetings.tsv").write_text("".join(f"{name}\tdear <name> !\n" for name in ("Ann", "Bo", "Cy") * 8))
    (place / "names.tsv").write_text("Ann\nCy\n")
    (place / "greetings.yaml").write_text(GREETINGS)
    deepgen("run", "greetings.yaml")
    folder = place / "runs" / "greetings"

    events = list(read_events(folder / "events.jsonl"))
    losses = {event.scored.step: event.scored.scores["eval_loss"] for event in events if event.HasField("scored")}
    assert len(losses) == 4
    scores = json.loads((folder / "metrics.json").read_text())
    assert scores["eval_loss"] == min(losses.values())
    points = [event.progress.step for event in events if event.HasField("progress") and event.progress.values]
    assert points == [3, 6, 9, 12, 15, 18, 21, 24]

    predict = ("--predict_dir", "names.tsv", "--predict_header", "name", "--result_header", "name")
    local = ("--model", "local", "--previous_dir", str(folder), "--do_train", "false", "--do_eval", "false")
    at_once(
        deepgen,
        ["predict", "--from", str(folder), *predict, "--result_file", str(place / "one.txt")],
        ["run", "greetings.yaml", *local, *predict, "--result_file", str(place / "two.txt")],
    )
    assert (place / "one.txt").read_text() == "Ann\tdear <name> !\t0\nCy\tdear <name> !\t0\n"
    assert (place / "two.txt").read_text() == (place / "one.txt").read_text()

    assert [path.name.startswith("events.out.tfevents.") for path in (place / "curves").iterdir()] == [True]
    assert {path.name for path in (place / "kept").iterdir()} == {"features", "tokenizers"}


OLD = """--task seq2label --model scratch:encoder.yaml --train_dir train.tsv --eval_dir eval.tsv \\
--train_header text,label --train_model_header cls_tokenize:text:input,convert2int:label:labels
--predict_model_header text,cls_tokenize:text:input --result_header text --output_type score --result_file out.txt
--eval_metrics auc,acc --max_length 20 --logging_steps 2 --save_steps 2 --eval_steps 2 --max_steps 3
--tok_max_length 32 --remove_unused_columns False
bo
"""


def test_an_argument_file_trains_and_then_predicts(place: Path, deepgen: Deepgen) -> None:
    (place / "imdb").write_text(OLD)
    deepgen("run", "imdb", "--do_train", "--num_ranks", "2", "--tracking", "false")
    folder = place / "runs" / "imdb"
    assert {path.name for path in (folder / "checkpoints").iterdir()} <= {"step-2", "step-3"}
    assert not (folder / "out.txt").exists()
    local = ("--model", "local", "--previous_dir", str(folder), "--output_dir", "answers", "--tracking", "false")
    deepgen("run", "imdb", "--do_predict", *local)
    texts = [line.split("\t")[0] for line in (place / "answers" / "out.txt").read_text().splitlines()]
    assert texts == [line.split("\t")[0] for line in (place / "eval.tsv").read_text().splitlines()]


def test_curves_that_cannot_be_written_end_the_run_with_the_reason(place: Path, deepgen: Deepgen) -> None:
    done = deepgen("run", "sentiment.yaml", "--logging_dir", "train.tsv/curves", "--tracking", "false", exits=2)
    assert "logging_dir = 'train.tsv/curves': Not a directory; give a folder to write to" in done.stderr
    assert "Traceback" not in done.stderr
    *_, last = read_events(place / "runs" / "sentiment" / "events.jsonl")
    assert (last.finished.state, last.finished.message[:11]) == (last.finished.FAILED, "logging_dir")


def test_targets_in_the_rows_to_predict_are_left_alone(place: Path, deepgen: Deepgen) -> None:
    """As in the original, where prediction had the header of evaluation; the result does not repeat the target."""
    header = ("--predict_model_header", "s2s_tokenize:letters:phones:tokens", "--result_header", "letters")
    deepgen("run", "pronounce.yaml", *header, "--max_steps", "2", "--num_ranks", "2", "--tracking", "false")
    words = [row.split("\t")[0] for row in (place / "words_eval.tsv").read_text().splitlines()]
    lines = [line.split("\t") for line in (place / "runs" / "pronounce" / "predict.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == [word for word in words for _ in range(2)]
