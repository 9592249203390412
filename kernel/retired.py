"""Settings of the original and of Hugging Face that are none here: left out with a note, or refused with a hint."""

from __future__ import annotations

from collections.abc import Container, Sequence

from .errors import SceneError
from .sources import Given

WITHOUT_EFFECT = {
    "compress_gradients": "it did nothing in the original either",
    "dataloader_pin_memory": "batches for a GPU are pinned",
    "ddp_find_unused_parameters": "the engine is DeepSpeed",
    "dense_gradients": "it did nothing in the original either",
    "disable_tqdm": "the progress line is plain where the output is no terminal",
    "eager_predict": "it did nothing in the original either",
    "eval_accumulation_steps": "answers are kept on the CPU",
    "evaluate_during_training": "eval_strategy decides that",
    "extract_chunk": "it did nothing in the original either",
    "fp16_backend": "the engine is DeepSpeed",
    "fp16_opt_level": "the engine is DeepSpeed",
    "local_rank": "the launcher tells each rank its own",
    "log_level": "there is a note for what a person should know, and log/ for the rest",
    "logging_first_step": "logging_steps says when",
    "logging_strategy": "logging_steps says when",
    "pred_dir": "it did nothing in the original either; the file to predict is predict_dir",
    "remove_unused_columns": "columns that the model does not read are kept out of the batch",
    "report_to": "the record is MLflow",
    "to_cache": "it did nothing in the original either",
}
"""Left out with a note; the reason follows the name."""

REPLACED = {
    "adafactor": "the optimizer is AdamW, or the one of your deepspeed configuration",
    "cls_mode": "the processor of the labels decides; see problem_type",
    "dataloader_drop_last": "every row is learned",
    "default_task": "a model has one task; several labels a row are one list",
    "diversity_penalty": "Transformers has no diverse beam search any more; do_sample draws different texts",
    "format_level": "formatter works on words, as format_level term did",
    "fp16_full_eval": "evaluation runs in the dtype that bf16 and fp16 choose",
    "from_tf": "Transformers reads no TensorFlow weights any more; convert them once with Transformers 4: "
    "from_pretrained(FOLDER, from_tf=True).save_pretrained(NEW), and give NEW as model",
    "loss_rce_beta": "against wrong labels there is label_smoothing_factor",
    "max_seq_length": "the cut of the input is source_max_length",
    "metric_for_best_model": "the first of eval_metrics chooses the best model",
    "multi_tasks": "there is no MTO_s2s_tokenize",
    "no_cuda": "ranks use the GPUs they see; hide them with CUDA_VISIBLE_DEVICES=",
    "num_beam_groups": "Transformers has no diverse beam search any more; do_sample draws different texts",
    "num_tasks": "several labels a row are convert2floatlist:labels",
    "optim": "the optimizer is AdamW, or the one of your deepspeed configuration",
    "prediction_loss_only": "leave eval_metrics out for the loss alone",
    "push_to_hub": "the model folder is a plain one; upload it yourself",
    "recover": "give the folder as model, or let the run go on by itself; see resume",
    "resume_from_checkpoint": "a run goes on in its output_dir by itself; see resume",
    "sharded_ddp": "the engine shards by zero_stage",
    "use_cpu": "ranks use the GPUs they see; hide them with CUDA_VISIBLE_DEVICES=",
}
"""Refused: leaving them out would change what is learned or predicted."""

OFF = ("false", "no", "off", "0")
HARMLESS = {
    "adafactor": OFF,
    "cls_mode": ("multi_task",),
    "dataloader_drop_last": OFF,
    "default_task": ("0",),
    "diversity_penalty": ("0", "0.", "0.0"),
    "format_level": ("term",),
    "fp16_full_eval": OFF,
    "from_tf": OFF,
    "loss_rce_beta": ("0", "0.0"),
    "no_cuda": OFF,
    "num_beam_groups": ("1",),
    "num_tasks": ("1",),
    "prediction_loss_only": OFF,
    "push_to_hub": OFF,
    "use_cpu": OFF,
}
"""Values of these that ask for what is done in any case."""


def leave_out(given: Sequence[Given], declared: Container[str], notes: list[str]) -> list[Given]:
    """The settings that remain; adds a note for each that is left out.

    Raises:
        SceneError: one whose work is done by another setting.
    """
    rest = []
    for item in given:
        if item.name in declared or item.name not in {**WITHOUT_EFFECT, **REPLACED}:
            rest.append(item)
        elif item.name in WITHOUT_EFFECT:
            notes.append(f"{item.place} is left out: {WITHOUT_EFFECT[item.name]}")
        elif str(item.raw).strip().lower() in HARMLESS.get(item.name, ()):
            notes.append(f"{item.place} is left out: {item.shown} is what is done in any case")
        else:
            raise SceneError(f"{item.place}: there is no such setting here: {REPLACED[item.name]}")
    return rest
