"""The peer: transformers.Trainer under the `deepspeed` launcher, set as Hugging Face's example scripts do, or tuned.

    deepspeed --num_accelerators 2 benchmarks/peer.py classify --mode defaults      # on a CPU: DS_ACCELERATOR=cpu

`defaults`: padding to max_length for classification, float32, rows in random order, prediction in file order.
`tuned`: padding to the longest of a batch, rows grouped by length, bfloat16 through the DeepSpeed configuration.
"""

from __future__ import annotations

import argparse
import csv
import time
from typing import Any

from datasets import Dataset, load_dataset
from measure import WORK, tell, window
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

MAX_LENGTH, NEW_TOKENS, BEAMS = 128, 32, 4


class Marks(TrainerCallback):  # type: ignore[misc]
    """Notes when each optimizer step ended."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.marks.append((time.time(), state.global_step))


def read(file: str, columns: list[str]) -> Dataset:
    """A TSV file as a data set."""
    return load_dataset(
        "csv", data_files=str(WORK / file), delimiter="\t", column_names=columns, quoting=csv.QUOTE_NONE, split="train"
    )


def arguments(given: argparse.Namespace, kind: type, training: bool = True, **more: Any) -> Any:
    """Training arguments that both tasks share. The Trainer refuses to predict alone with DeepSpeed at ZeRO 0 to 2."""
    config: dict[str, Any] = {
        "zero_optimization": {"stage": given.zero_stage},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": given.bf16},
    }
    return kind(
        output_dir=str(WORK / "peer"),
        deepspeed=config if training else None,
        bf16=given.bf16,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        learning_rate=5e-5,
        num_train_epochs=1,
        max_steps=given.steps,
        save_strategy="no",
        report_to="none",
        seed=given.seed,
        train_sampling_strategy="group_by_length" if given.mode == "tuned" else "random",
        use_cpu=True,
        **more,
    )


def classify(given: argparse.Namespace) -> None:
    """Trains on text pairs and predicts."""
    settings = arguments(given, TrainingArguments)
    set_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(WORK / "bert")
    model = AutoModelForSequenceClassification.from_pretrained(WORK / "bert", num_labels=2)
    padding = "max_length" if given.mode == "defaults" else False

    def encode(rows: Any) -> Any:
        return tokenizer(rows["query"], rows["doc"], padding=padding, max_length=MAX_LENGTH, truncation=True)

    columns = ["query", "doc", "label"]
    with settings.main_process_first(desc="tokenization"):
        train = read(given.train, columns)
        begin = time.monotonic()
        train = train.map(encode, batched=True, load_from_cache_file=not given.fresh)
        tokenized = len(train) / (time.monotonic() - begin)
        predict = read("cls_eval.tsv", columns).map(encode, batched=True, load_from_cache_file=not given.fresh)
    marks = Marks()
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=default_data_collator if given.mode == "defaults" else DataCollatorWithPadding(tokenizer),
        callbacks=[marks],
    )
    trainer.train()
    begin = time.time()
    scores = trainer.predict(predict.remove_columns("label"), metric_key_prefix="predict").predictions
    end = time.time()
    if trainer.is_world_process_zero():
        total, batch = marks.marks[-1][1], settings.train_batch_size * settings.world_size
        tell(
            first_step=marks.marks[0][0],
            train=window(marks.marks, total, batch),
            predict=(begin, end, len(scores)),
            tokenize_rows_s=tokenized,
        )


def generate(given: argparse.Namespace) -> None:
    """Predicts by beam search with the model as it is."""
    settings = arguments(given, Seq2SeqTrainingArguments, False, predict_with_generate=True)
    set_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(WORK / "bart")
    model = AutoModelForSeq2SeqLM.from_pretrained(WORK / "bart")

    def encode(rows: Any) -> Any:
        made = tokenizer(rows["source"], max_length=MAX_LENGTH, truncation=True)
        made["labels"] = tokenizer(text_target=rows["target"], max_length=NEW_TOKENS, truncation=True)["input_ids"]
        return made

    predict = read("s2s_eval.tsv", ["source", "target"])
    predict = predict.map(encode, batched=True, remove_columns=predict.column_names)
    trainer = Seq2SeqTrainer(
        model=model,
        args=settings,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=-100),
    )
    begin = time.time()
    ids = trainer.predict(predict, max_new_tokens=NEW_TOKENS, num_beams=BEAMS).predictions
    if trainer.is_world_process_zero():
        lengths = (ids != tokenizer.pad_token_id).sum(axis=1)
        tell(predict=(begin, time.time(), len(ids)), tokens=float(lengths.mean()))


def main() -> None:
    """One measurement; rank 0 prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["classify", "generate"])
    parser.add_argument("--mode", choices=["defaults", "tuned"], default="defaults")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--train", default="cls_short.tsv")
    parser.add_argument("--fresh", action="store_true", help="tokenize, whatever is in the cache")
    parser.add_argument("--steps", type=int, default=-1)
    parser.add_argument("--zero_stage", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--local_rank", type=int, help="given by the launcher")
    given = parser.parse_args()
    {"classify": classify, "generate": generate}[given.task](given)


if __name__ == "__main__":
    main()
