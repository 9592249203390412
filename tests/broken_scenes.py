"""Scenes that must be refused: each with what its one line of refusal has to name, the place and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CLASSIFIER = {
    "task": "seq2label",
    "model": "model",
    "train_dir": "train.tsv",
    "eval_dir": "eval.tsv",
    "train_header": "text,label",
    "train_model_header": "cls_tokenize:text:tokens,convert2int:label:labels",
    "eval_metrics": "acc",
    "output_dir": "out",
}
WRITER = {
    "task": "seq2seq",
    "model": "model",
    "train_dir": "pairs.tsv",
    "eval_dir": "pairs.tsv",
    "train_header": "source,target",
    "train_model_header": "s2s_tokenize:source:target:tokens",
    "eval_metrics": "rouge",
    "output_dir": "out",
}
FILES: dict[str, bytes] = {
    "train.tsv": b"a good film\t1\na bad film\t0\n",
    "eval.tsv": b"fine\t1\npoor\t0\n",
    "pairs.tsv": b"one\teins\ntwo\tzwei\n",
    "predict.tsv": b"what a film\nno\n",
    "model/config.json": b'{"model_type": "bert"}',
    "hollow/readme.txt": b"no model here",
    "nothing.tsv": b"",
    "three.tsv": b"a\t1\tx\nb\t0\ty\n",
    "latin.tsv": b"caf\xe9\t1\n",
    "words.csv": b"text,label\nfine,1\n",
    "ds.json": b'{"zero_optimization": {"stage": 2}}',
    "bad.json": b"{stage: 2",
    "list.json": b"[1, 2]",
    "scratch.yaml": b"model_type: bert\n",
    "broken_plugin.py": b'"""Broken."""\nimport no_such_module_anywhere\n',
    "no_plugin.py": b'"""Nothing is registered here."""\n',
    "syntax_plugin.py": b"def (:\n",
    "clash_plugin.py": (
        b"from dataclasses import dataclass\n"
        b"from deepgen.kernel.contracts import Metric\n"
        b"from deepgen.kernel.registry import metric\n"
        b'@metric("acc")\n@dataclass\nclass Mine(Metric):\n    """Mine."""\n'
        b"    def keys(self): return ()\n    update = compute = keys\n"
    ),
    "option_plugin.py": (
        b"from dataclasses import dataclass\n"
        b"from deepgen.kernel.contracts import Metric\n"
        b"from deepgen.kernel.registry import metric\n"
        b'@metric("mine_with_seed")\n@dataclass\nclass Mine(Metric):\n    """Mine."""\n    seed: int = 3\n'
        b"    def keys(self): return ()\n    update = compute = keys\n"
    ),
    "half_plugin.py": (
        b"from dataclasses import dataclass\n"
        b"from deepgen.kernel.contracts import Metric\n"
        b"from deepgen.kernel.registry import metric\n"
        b'@metric("half")\n@dataclass\nclass Half(Metric):\n    """Half."""\n    def keys(self): return ()\n'
    ),
}
"""What stands beside the scene."""


@dataclass(frozen=True)
class Broken:
    """A scene, and substrings of the line that refuses it."""

    name: str
    place: str
    remedy: str
    changes: Mapping[str, object] = field(default_factory=dict)
    """Settings over those of the base; None takes one away."""
    base: Mapping[str, str] = field(default_factory=lambda: CLASSIFIER)
    text: str | bytes | None = None
    """The whole scene file, in place of base and changes."""
    tokens: tuple[str, ...] = ()
    """The command line after the scene."""
    file: str = "scene.yaml"


def _c(name: str, place: str, remedy: str, /, **changes: object) -> Broken:
    return Broken(name, place, remedy, changes)


def _s(name: str, place: str, remedy: str, /, **changes: object) -> Broken:
    return Broken(name, place, remedy, changes, WRITER)


def _cli(name: str, place: str, remedy: str, *tokens: str) -> Broken:
    return Broken(name, place, remedy, tokens=tokens)


def _text(name: str, place: str, remedy: str, text: str | bytes, file: str = "scene.yaml") -> Broken:
    return Broken(name, place, remedy, text=text, file=file)


ARGUMENTS = " ".join(f"--{name} {value}" for name, value in CLASSIFIER.items())

BROKEN = [
    # Names of settings
    _c("typo of a key", "scene.yaml:9: learning_rat", "did you mean 'learning_rate'", learning_rat="1e-4"),
    _c("typo of a plugin's key", "scene.yaml:9: num_label", "did you mean 'num_labels'", num_label="2"),
    _c("unknown key", "scene.yaml:9: qwertz", "deepgen run --help", qwertz="2"),
    _c("dash in a key", "scene.yaml:9: learning-rate", "did you mean 'learning_rate'", **{"learning-rate": "1"}),
    _cli("typo on the command line", "--warmup_ration", "did you mean 'warmup_ratio'", "--warmup_ration", "0.1"),
    _c("option of a plugin that is not used", "scene.yaml:9: num_beams", "seq2seq", num_beams="4"),
    _c("setting of the original that is refused", "scene.yaml:9: from_tf", "from_tf=True", from_tf="true"),
    _c("setting of Hugging Face", "scene.yaml:9: metric_for_best_model", "eval_metrics", metric_for_best_model="acc"),
    _text("a key twice", "scene.yaml:3: task is set twice", "first on line 1", "task: seq2label\nseed: 1\ntask: seq2seq\n"),
    _c("a setting and its alias", "scene.yaml:10: tok_max_length", "keep one", source_max_length="8", tok_max_length="9"),
    # Values
    _c("text for a number", "scene.yaml:9: learning_rate", "is not a number", learning_rate="fast"),
    _c("text for a whole number", "scene.yaml:9: seed", "is not a whole number", seed="1.5"),
    _c("text for a truth", "scene.yaml:9: keep_rank_files", "true or false", keep_rank_files="perhaps"),
    _c("nan", "scene.yaml:9: learning_rate", "is not a number", learning_rate="nan"),
    _c("a file for the curves", "scene.yaml:9: logging_dir", "give a folder", logging_dir="train.tsv"),
    _c("no value", "scene.yaml:9: learning_rate", "has no value", learning_rate=""),
    _cli("no value on the command line", "--learning_rate", "has no value; it takes a number", "--learning_rate"),
    _c("a null character", "scene.yaml:3: train_dir", "null character", train_dir='"a\\0"'),
    _c("typo of a choice", "scene.yaml:9: bad_rows", "did you mean 'skip'", bad_rows="skipp"),
    _c("unknown choice", "scene.yaml:9: zero_stage", "one of 0, 1, 2, 3", zero_stage="4"),
    _c("negative batch", "scene.yaml:9: per_device_train_batch_size", "below the least", per_device_train_batch_size="-4"),
    _c("batch of none", "scene.yaml:9: per_device_eval_batch_size", "least value, 1", per_device_eval_batch_size="0"),
    _c("negative length", "scene.yaml:9: source_max_length", "least value, 1", source_max_length="-1"),
    _c("negative learning rate", "scene.yaml:9: learning_rate", "below the least value", learning_rate="-0.1"),
    _c("negative epochs", "scene.yaml:9: num_train_epochs", "below the least value", num_train_epochs="-1"),
    _c("dropout above 1", "scene.yaml:9: classifier_dropout", "greatest value, 1", classifier_dropout="1.5"),
    _c("warm-up above 1", "scene.yaml:9: warmup_ratio", "greatest value, 1", warmup_ratio="2"),
    _cli("no ranks", "--num_ranks", "least value, 1", "--num_ranks", "0"),
    _c("a mapping for a number", "scene.yaml:9: seed", "is not a whole number", seed="{a: 1}"),
    _c("a mapping in a header", "scene.yaml:6: train_model_header", "space after the colon",
       train_model_header="[cls_tokenize:text:t, convert2int: labels]"),
    _c("unknown schedule", "scene.yaml:9: lr_scheduler_type", "did you mean 'cosine'", lr_scheduler_type="cosin"),
    # Plugins
    _c("no task", "scene.yaml", "task: NAME", task=None),
    _c("typo of a task", "scene.yaml:1: task", "did you mean 'seq2label'", task="seq2lable"),
    _c("typo of a metric", "scene.yaml:7: eval_metrics", "did you mean 'auc'", eval_metrics="acuc"),
    _c("typo of a processor", "scene.yaml:6: train_model_header", "did you mean 'cls_tokenize'",
       train_model_header="cls_tokenise:text:tokens,convert2int:label:labels"),
    _c("unknown trainer", "scene.yaml:9: trainer", "there are common", trainer="qwertz"),
    _c("typo of an outputter", "scene.yaml:9: output_type", "did you mean 'score'", output_type="scor"),
    _c("plugin file missing", "nowhere.py", "no such file", plugin="nowhere.py"),
    _c("plugin file with an error", "broken_plugin.py:2", "ModuleNotFoundError", plugin="broken_plugin.py"),
    _c("plugin file that is no Python", "syntax_plugin.py:1", "SyntaxError", plugin="syntax_plugin.py"),
    _c("plugin file without plugins", "no_plugin.py", "@processor('name')", plugin="no_plugin.py"),
    _c("plugin that is there twice", "clash_plugin.py", "registered twice", plugin="clash_plugin.py"),
    _c("plugin that lacks methods", "'half'", "lacks compute, update", plugin="half_plugin.py"),
    _c("plugin with a kernel's setting", "'seed'", "rename it", plugin="option_plugin.py", eval_metrics="mine_with_seed"),
    # Headers
    _c("no header", "train_header is not set", "text,label", train_header=None),
    _c("no model header", "train_model_header is not set", "cls_tokenize", train_model_header=None),
    _c("typo of a column", "scene.yaml:6: train_model_header", "did you mean 'text'",
       train_model_header="cls_tokenize:tekst:tokens,convert2int:label:labels"),
    _c("unknown column", "scene.yaml:6: train_model_header", "its columns are text, label",
       train_model_header="cls_tokenize:qwertz:tokens,convert2int:label:labels"),
    _c("a column twice", "scene.yaml:5: train_header", "one name", train_header="text,text"),
    _c("an empty column", "scene.yaml:5: train_header", "empty column name", train_header="text,,label"),
    _c("a processor among the columns", "scene.yaml:5: train_header", "train_model_header", train_header="text,convert2int:label"),
    _c("an item with an empty part", "scene.yaml:6: train_model_header", "processor:column",
       train_model_header="cls_tokenize:text:tokens,convert2int::labels"),
    _c("two items of one output", "scene.yaml:6: train_model_header", "must differ",
       train_model_header="cls_tokenize:text:labels,convert2int:label:labels"),
    _c("two items of one field", "scene.yaml:6: train_model_header", "input_ids",
       train_model_header="cls_tokenize:text:a,s2s_tokenize:text:b,convert2int:label:labels"),
    _c("too many inputs", "scene.yaml:6: train_model_header", "takes 1 to 2",
       train_model_header="cls_tokenize:text:text:label:tokens,convert2int:label:labels"),
    _c("too many inputs of a converter", "scene.yaml:6: train_model_header", "takes 1",
       train_model_header="cls_tokenize:text:tokens,convert2int:text:label:labels"),
    _c("no tokens", "scene.yaml:6: train_model_header", "add an item of cls_tokenize",
       train_model_header="convert2int:label:labels"),
    _c("no labels", "scene.yaml:6: train_model_header", "convert2int:label:labels", train_model_header="cls_tokenize:text:t"),
    _c("labels under another name", "scene.yaml:6: train_model_header", "ends in 'labels'",
       train_model_header="cls_tokenize:text:t,convert2int:label"),
    _s("no target", "scene.yaml:6: train_model_header", "needs 'labels'", train_model_header="s2s_tokenize:source:t"),
    _c("labels that are text", "seq2label", "convert2int", train_model_header="cls_tokenize:text:t,basic:label:labels"),
    _s("labels that are numbers", "seq2seq", "s2s_tokenize",
       train_model_header="cls_tokenize:source:t,convert2int:target:labels"),
    _c("labels of two kinds", "scene.yaml:9: eval_model_header", "same processor",
       eval_model_header="cls_tokenize:text:t,convert2float:label:labels"),
    _c("a label that the file to predict lacks", "train_model_header", "predict_header",
       predict_dir="predict.tsv", predict_header="text"),
    # Parts that do not fit
    _c("metric of another problem", "scene.yaml:7: eval_metrics", "metrics that fit: acc", eval_metrics="rouge"),
    _c("metric of numbers for classes", "scene.yaml:7: eval_metrics", "metrics that fit", eval_metrics="pearson"),
    _s("metric of classes for text", "scene.yaml:7: eval_metrics", "bleu", eval_metrics="auc"),
    _s("unknown key of a metric", "scene.yaml:7: eval_metrics", "did you mean 'rougeL'", eval_metrics="rouge:rougel"),
    _s("unknown key of a metric without a like", "scene.yaml:7: eval_metrics", "it has rouge1", eval_metrics="rouge:foo"),
    _c("a metric twice", "scene.yaml:7: eval_metrics", "once", eval_metrics="acc,acc"),
    _c("outputter of another problem", "scene.yaml:12: output_type", "outputters that fit",
       predict_dir="predict.tsv", predict_header="text", predict_model_header="cls_tokenize:text:t", output_type="generation"),
    _c("result column that is not there", "scene.yaml:12: result_header", "did you mean 'text'",
       predict_dir="predict.tsv", predict_header="text", predict_model_header="cls_tokenize:text:t", result_header="tekst"),
    _c("problem type that does not fit", "scene.yaml:9: problem_type", "whole numbers",
       problem_type="multi_label_classification"),
    _c("several labels in regression", "scene.yaml:9: num_labels", "regression", num_labels="3", problem_type="regression"),
    _c("max_length where nothing has it", "scene.yaml:9: max_length", "source_max_length", max_length="20"),
    _s("max_length against max_new_tokens", "scene.yaml:9: max_length", "keep one", max_length="20", max_new_tokens="30"),
    _s("more sequences than beams", "scene.yaml:10: num_return_sequences", "num_beams",
       num_beams="2", num_return_sequences="3"),
    # Label mappings
    _c("mapping with a hole", "scene.yaml:9: label_mapping", "no label for class number 1",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:0,good:2"),
    _c("mapping of one number twice", "scene.yaml:9: label_mapping", "each has its own",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:0,good:0"),
    _c("mapping to text", "scene.yaml:9: label_mapping", "not a number",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:x,good:1"),
    _c("mapping without numbers", "scene.yaml:9: label_mapping", "name:value",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:0,good"),
    _c("mapping with a name twice", "scene.yaml:9: label_mapping", "keep one",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:0,bad:1"),
    _c("negative class", "scene.yaml:9: label_mapping", "count from 0",
       train_model_header="cls_tokenize:text:t,label_mapping:label:labels", label_mapping="bad:-1,good:0"),
    # Files
    _c("missing file", "scene.yaml:3: train_dir", "no such file", train_dir="trian.tsv"),
    _c("glob without a match", "scene.yaml:3: train_dir", "matches no file", train_dir="trian*.tsv"),
    _c("folder without files", "scene.yaml:3: train_dir", "without files", train_dir="void"),
    _c("empty training file", "scene.yaml:3: train_dir", "holds no rows", train_dir="nothing.tsv"),
    _c("another number of columns", "three.tsv:1", "train_header names 2", train_dir="three.tsv"),
    _c("not UTF-8", "latin.tsv:1", "UTF-8", train_dir="latin.tsv"),
    _c("column that a CSV file lacks", "words.csv:1", "it has text, label", train_dir="words.csv", train_header="text,y",
       train_model_header="cls_tokenize:text:t,convert2int:y:labels"),
    _c("nothing to do", "nothing to do", "train_dir", train_dir=None, eval_dir=None),
    _c("nothing to do with what is given", "train_dir is not set, ", "scene.yaml:8: do_eval is false", train_dir=None,
       do_eval="false"),
    _c("training without data", "do_train", "train_dir is not set", train_dir=None, do_train="true"),
    # The model
    _c("no model", "model is not set", "a folder", model=None),
    _c("missing model folder", "scene.yaml:2: model", "no such folder", model="./modle"),
    _c("folder that is no model", "scene.yaml:2: model", "config.json", model="hollow"),
    _c("package that is not installed", "scene.yaml:2: model", "no_such_package_here", model="package:no_such_package_here"),
    _c("missing scratch file", "scene.yaml:2: model", "no such file", model="scratch:scrach.yaml"),
    # DeepSpeed
    _c("unknown DeepSpeed block", "scene.yaml:9: deepspeed", "did you mean 'zero_optimization'",
       deepspeed="{zero_optimisation: {stage: 2}}"),
    _c("unknown DeepSpeed key", "scene.yaml:9: deepspeed", "did you mean 'stage'", deepspeed="{zero_optimization: {stge: 2}}"),
    _c("missing DeepSpeed file", "scene.yaml:9: deepspeed", "no such file", deepspeed="dss.json"),
    _c("DeepSpeed file that is no JSON", "bad.json", "not JSON", deepspeed="bad.json"),
    _c("DeepSpeed file that is a list", "list.json", "JSON object", deepspeed="list.json"),
    _c("removed DeepSpeed block", "scene.yaml:9: deepspeed", "leave it out", deepspeed="{sparse_attention: {mode: fixed}}"),
    _c("DeepSpeed number against a setting", "scene.yaml:9: deepspeed", "per_device_train_batch_size is 16",
       deepspeed="{train_micro_batch_size_per_gpu: 4}"),
    _c("DeepSpeed stage against a setting", "scene.yaml:9: deepspeed", "make them equal", deepspeed="ds.json", zero_stage="3"),
    _c("two dtypes", "scene.yaml:10: fp16", "bf16", bf16="true", fp16="true"),
    _c("offload without ZeRO", "scene.yaml:9: offload_optimizer", "zero_stage", offload_optimizer="cpu", zero_stage="0"),
    _c("offloaded weights without ZeRO 3", "scene.yaml:9: offload_param", "zero_stage 3", offload_param="cpu"),
    _c("nvme without a place", "nvme_path is not set", "folder", offload_param="nvme", zero_stage="3"),
    # The trainer
    _c("evaluation without data", "scene.yaml:8: eval_strategy", "eval_dir", eval_dir=None, eval_strategy="epoch"),
    _c("best model without evaluation", "scene.yaml:9: load_best_model_at_end", "eval_strategy",
       load_best_model_at_end="true", eval_strategy="no"),
    _c("patience without evaluation", "scene.yaml:8: early_stopping_patience", "eval_dir", eval_dir=None, early_stopping_patience="2"),
    _c("two warm-ups", "scene.yaml:9: warmup_steps", "keep one", warmup_steps="5", warmup_ratio="0.1"),
    _c("a stream without an end", "max_steps is not set", "how many steps", datareader_streaming="true"),
    # Scene files
    Broken("scene that is not there", "scen.yaml", "no such file exists", file="scen.yaml", text=None),
    _text("not YAML", "scene.yaml:2", "indentation", "task: seq2label\n  seed: [1\n"),
    _text("tabs", "scene.yaml:2", "indentation", "task:\n\tseq2label\n"),
    _text("a list for a scene", "scene.yaml", "name: value", "- task\n- model\n"),
    _text("an empty scene", "scene.yaml", "name: value", "# nothing\n"),
    _text("a scene that is not UTF-8", "scene.yaml", "UTF-8", b"task: caf\xe9\n"),
    _text("a name that is a list", "scene.yaml:1", "one word", "[task, model]: seq2label\n"),
    _text("a key of a mapping twice", "scene.yaml:3", "twice", "task: seq2label\ndeepspeed:\n  {a: 1, a: 2}\n"),
    # The original's argument files
    _text("unknown flag of an old scene", "old:2: learning_rat", "did you mean 'learning_rate'",
          ARGUMENTS + "\n--learning_rat 1\n", "old"),
    _text("wrong type in an old scene", "old:3: seed", "whole number", ARGUMENTS + " \\\n\n--seed one\n", "old"),
    _text("unknown task of an old scene", "old:1: task", "seq2label", "--task seq2lable --model model\n", "old"),
    _text("an old scene of prose", "old", "--name value", "just some words\n", "old"),
    _text("an old scene of another task", "old:2: num_beams", "seq2seq", ARGUMENTS + "\n--num_beams 3\n", "old"),
    # The command line
    _cli("a stray word", "'sentiment'", "--name value", "sentiment"),
    _cli("two dashes", "'--'", "--name value", "--"),
    _cli("rows that are no number", "--rows", "whole number", "--rows", "many"),
]  # fmt: skip
"""At least one for every kind of mistake."""
