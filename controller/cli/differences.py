"""Where a scene does something else here than the original did with it; for `deepgen check` on an argument file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...kernel.check import Findings
from ...kernel.contracts import Problem
from ...kernel.parsing import plain
from ...kernel.scene import Scene

DEFAULTS: dict[str, tuple[str, str]] = {
    "model": ("local", "always"),
    "output_dir": ("./temp", "always"),
    "bf16": ("false", "always"),
    "per_device_train_batch_size": ("8", "train"),
    "num_train_epochs": ("1", "train"),
    "logging_steps": ("200", "train"),
    "save_strategy": ("steps", "train"),
    "save_steps": ("5000", "steps"),
    "eval_strategy": ("steps", "scored"),
    "eval_steps": ("5000", "evaluated in steps"),
    "eval_metrics": ("acc", "eval"),
    "per_device_eval_batch_size": ("8", "eval"),
    "result_file": ("predict.txt", "predict"),
    "output_type": ("score", "predict"),
    "source_max_length": ("1024", "always"),
    "target_max_length": ("256", "always"),
    "cls_loss_weight": ("0", "train"),
    "num_labels": ("1, which is a regression", "classes"),
}
"""Setting → what it was where nobody set it, and when that matters."""
HERE = {
    "model": "refused where no previous_dir is set",
    "output_dir": "runs/ and the name of the scene",
    "eval_metrics": "the loss alone",
    "result_file": "predict",
    "output_type": "what fits the answers of the task",
    "source_max_length": "what the model takes, at most 1024",
    "target_max_length": "what the model takes, at most 1024",
    "num_labels": "as many as the labels of the training data have",
}
"""What a default of none means."""
GENERATION = {
    "max_new_tokens": "max_length 20",
    "min_length": "min_length 5",
    "num_beams": "num_beams 1",
    "length_penalty": "length_penalty 1.0",
    "early_stopping": "early_stopping True",
    "repetition_penalty": "repetition_penalty 1.0",
    "no_repeat_ngram_size": "no_repeat_ngram_size 0",
}
"""What the original set over the checkpoint's own generation settings, by the setting that decides it here."""


@dataclass(frozen=True)
class Seen:
    """A scene as the conditions below ask for it."""

    scene: Scene
    found: Findings

    def has(self, *splits: str) -> bool:
        return all(split in self.found.splits for split in splits)

    def is_set(self, name: str) -> bool:
        return name in self.scene.values and self.scene.values[name].is_set

    def uses(self, *processors: str) -> bool:
        parts = self.found.parts.values()
        return any(one.name in processors for part in parts for one in part.processors)

    def answers(self, *problems: Problem) -> bool:
        return self.found.problem in problems

    def scores(self, *metrics: str) -> bool:
        return self.has("eval") and bool(
            {name.partition(":")[0] for name in self.scene.settings.eval_metrics} & set(metrics)
        )

    def matters(self, when: str) -> bool:
        """Whether the default of a setting shows in this scene."""
        values = self.scene.values
        match when:
            case "steps":
                return self.has("train") and values["save_strategy"].value == "steps"
            case "scored":
                return self.has("train", "eval")
            case "evaluated in steps":
                return self.has("train", "eval") and values["eval_strategy"].value == "steps"
            case "classes":
                return self.has("train") and not self.answers("text", "embedding")
            case "always":
                return True
        return self.has(when)


def _has_folder(seen: Seen) -> bool:
    given = (seen.scene.values[f"{split}_dir"].value for split in seen.found.splits)
    return any(path and Path(path).is_dir() for path in given)


def _returns_several(seen: Seen) -> bool:
    value = seen.scene.values.get("num_return_sequences")
    return value is not None and (value.value or 1) > 1


def _has_quotes(seen: Seen) -> bool:
    texts = [plain(value.value) for value in seen.scene.values.values() if value.origin.file]
    return any(text[:1] in ("'", '"') or text[-1:] in ("'", '"') for text in texts)


DIFFERENCES: tuple[tuple[Callable[[Seen], bool], str], ...] = (
    (
        lambda seen: not seen.is_set("do_train") and not seen.is_set("do_predict"),
        "neither do_train nor do_predict is set: everything that has its data is done, where the original did nothing",
    ),
    (
        lambda seen: any(seen.is_set(f"{split}_dir") for split in ("train", "eval", "predict")),
        "paths are relative to the scene file, and only where nothing lies there to the working folder",
    ),
    (
        _has_quotes,
        "quote marks are part of a value in an argument file, as they were; YAML takes them off",
    ),
    (_has_folder, "the files of a folder are read in order of their names, without hidden ones and sub-folders"),
    (
        lambda seen: seen.scene.values["datareader_streaming"].value and seen.has("train"),
        "a stream is shuffled within a buffer (shuffle_num_batch), divided among the ranks, and needs max_steps",
    ),
    (
        lambda seen: seen.uses("s2s_tokenize", "twinbert_tokenize") and not seen.is_set("bad_rows"),
        "a row that cannot be read ends the run with its file and line, where the original learned an empty pair; "
        "bad_rows: skip leaves such rows out",
    ),
    (
        lambda seen: seen.is_set("target_max_length") and seen.is_set("max_new_tokens"),
        "max_length is two settings: target_max_length cuts targets, max_new_tokens ends generation",
    ),
    (
        lambda seen: seen.uses("cls_tokenize", "s2s_tokenize", "twinbert_tokenize"),
        "rows are padded with the padding token of the tokenizer, where the original took token 0 for any model",
    ),
    (
        lambda seen: seen.uses("label_mapping"),
        "label_mapping makes decimal numbers of all labels as soon as one value has a point, and not batch by batch",
    ),
    (
        lambda seen: seen.has("train"),
        "the loss is a mean over all rows or tokens of the global batch; checkpoints are written, and the best model "
        "by the first of eval_metrics is what stays in model/",
    ),
    (
        lambda seen: seen.has("train", "eval", "predict"),
        "evaluation in training reads eval_dir by its own headers, where the original read the rows to predict",
    ),
    (
        lambda seen: seen.has("train", "eval") and seen.scene.settings.eval_metrics[:1] == ("eval_loss",),
        "the least eval_loss is best, where greater_is_better had to be set to False",
    ),
    (
        lambda seen: seen.has("eval") and seen.answers("text"),
        "eval_loss is the loss of the true text, where the original always had 0",
    ),
    (
        lambda seen: seen.scores("bleu"),
        "bleu is the BLEU of the corpus by sacrebleu; the original's mean over sentences is bleu_sentence",
    ),
    (
        lambda seen: seen.scores("rouge"),
        "rouge is Google's rouge_score; the original's formula is rouge_legacy, without its cut at 665 bytes",
    ),
    (
        lambda seen: seen.scores("bleu", "rouge") and _returns_several(seen) and not seen.is_set("best_of_candidates"),
        "of several returned texts the first is scored, where the original took the best, as best_of_candidates does",
    ),
    (
        lambda seen: seen.has("predict") and seen.found.outputter == "score" and seen.answers("regression"),
        "score writes the number itself, where the original wrote 1.0 (the softmax of one)",
    ),
    (
        lambda seen: seen.found.outputter == "score" and seen.answers("multi_label_classification"),
        "score writes the sigmoid of each class, where the original took the softmax over all",
    ),
    (
        lambda seen: seen.has("predict"),
        "the result is one file in the order of the input for any number of ranks: nothing to merge, no row twice",
    ),
    (
        lambda seen: seen.has("predict") and seen.found.outputter not in ("embedding", "jsonl"),
        "backslash, TAB and line ends in a text or result column are written as \\\\, \\t, \\n and \\r",
    ),
    (
        lambda seen: seen.has("predict") and seen.answers("text") and seen.is_set("special_tokens"),
        "special_tokens stay in the written text, where the original lost them",
    ),
    (
        lambda seen: seen.uses("twinbert_tokenize"),
        "the document is cut at target_max_length, which max_length sets as before",
    ),
    (
        lambda seen: seen.scene.settings.task == "twinbert" and not seen.is_set("temperature"),
        "temperature is not set: 0.05; in the original 1.0",
    ),
    (
        lambda seen: seen.scene.settings.task == "twinbert" and not seen.is_set("embedding_size"),
        "vectors have the size of the encoder unless embedding_size is set, where the original made them smaller",
    ),
    (
        lambda seen: seen.scene.settings.task == "guided_seq2seq",
        "guided_seq2seq adds its latent tokens to the vocabulary of any encoder-decoder, really builds guided_mode and "
        "em, and decodes only the selected latents; the original used 11 words of BART and always the decoder",
    ),
)
"""When, and what is different then."""


def differences(scene: Scene, found: Findings) -> list[str]:
    """Each behaviour that differs for this scene, a line each."""
    seen = Seen(scene, found)
    return [text for applies, text in DIFFERENCES if applies(seen)] + [*_generation(seen), *_defaults(seen)]


def _generation(seen: Seen) -> Iterator[str]:
    """The original's defaults went over the checkpoint's own settings; here only what was set does."""
    if "num_beams" in seen.scene.values:
        unset = [text for name, text in GENERATION.items() if name in seen.scene.values and not seen.is_set(name)]
        if unset:
            yield f"what is not set stays as the checkpoint has it, where the original set {', '.join(unset)}"


def _defaults(seen: Seen) -> Iterator[str]:
    for name, (before, when) in DEFAULTS.items():
        value = seen.scene.values.get(name)
        if value is None or value.is_set or not seen.matters(when):
            continue
        if name == "model" and seen.is_set("previous_dir"):
            continue
        if name == "output_type" and seen.found.outputter == before:
            continue
        here = plain(value.value) or HERE[name]
        if name == "result_file" and seen.found.outputter is not None:
            here += seen.scene.outputter(seen.found.outputter).extension
        if here.removesuffix(".0") != before:
            yield f"{name} is not set: {here}; in the original {before}"
