"""Settings of the original and of Hugging Face that are none here: left out with a note, or refused with a hint."""

from __future__ import annotations

from collections.abc import Container, Sequence

from .errors import SceneError
from .sources import Given

WITHOUT_EFFECT = {
    "compress_gradients": "it did nothing in the original either",
    "dense_gradients": "it did nothing in the original either",
    "disable_tqdm": "the progress line is plain where the output is no terminal",
    "eager_predict": "it did nothing in the original either",
    "evaluate_during_training": "eval_strategy decides that",
    "extract_chunk": "it did nothing in the original either",
    "from_tf": "models are read from safetensors or PyTorch weights",
    "logging_dir": "logs are in the run folder",
    "outputter_num_workers": "one writer is fast enough and keeps the order",
    "pred_dir": "it did nothing in the original either; the file to predict is predict_dir",
    "remove_unused_columns": "columns that the model does not read are kept out of the batch",
    "report_to": "the record is MLflow",
    "to_cache": "it did nothing in the original either",
}
"""Left out with a note; the reason follows the name."""

REPLACED = {
    "fp16_full_eval": "evaluation runs in the dtype that bf16 and fp16 choose",
    "label_names": "the field with the labels is called 'labels'",
    "max_seq_length": "the cut of the input is source_max_length",
    "metric_for_best_model": "the first of eval_metrics chooses the best model",
    "multi_tasks": "there is no MTO_s2s_tokenize",
    "no_cuda": "ranks use the GPUs they see; hide them with CUDA_VISIBLE_DEVICES=",
    "num_tasks": "several labels a row are convert2floatlist:labels",
    "optim": "the optimizer is AdamW, or the one of your deepspeed configuration",
    "resume_from_checkpoint": "a run goes on in its output_dir by itself; see resume",
    "use_cpu": "ranks use the GPUs they see; hide them with CUDA_VISIBLE_DEVICES=",
}
"""Refused: leaving them out would change what is learned or predicted. Settings of the original and of Hugging Face."""


def leave_out(given: Sequence[Given], declared: Container[str], notes: list[str]) -> list[Given]:
    """The settings that remain; adds a note for each that is left out.

    Raises:
        SceneError: one whose work is done by another setting.
    """
    rest = []
    for item in given:
        if item.name in declared or item.name not in {**WITHOUT_EFFECT, **REPLACED}:
            rest.append(item)
        elif item.name in REPLACED:
            raise SceneError(f"{item.place}: there is no such setting here: {REPLACED[item.name]}")
        else:
            notes.append(f"{item.place} is left out: {WITHOUT_EFFECT[item.name]}")
    return rest
