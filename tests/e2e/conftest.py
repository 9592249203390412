"""Small real scenes: a tiny encoder, encoder-decoder and decoder with new weights, on cuts of the sample data."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "sample"
ENCODER = """
model_type: bert
hidden_size: 32
num_hidden_layers: 2
num_attention_heads: 2
intermediate_size: 64
max_position_embeddings: 64
hidden_dropout_prob: 0.0
attention_probs_dropout_prob: 0.0
tokenizer: {model: word_piece, vocab_size: 600, lowercase: true}
"""
ENCODER_DECODER = """
model_type: bart
d_model: 32
encoder_layers: 1
decoder_layers: 1
encoder_attention_heads: 2
decoder_attention_heads: 2
encoder_ffn_dim: 64
decoder_ffn_dim: 64
max_position_embeddings: 64
dropout: 0.0
tokenizer: {model: word_level, vocab_size: 200}
"""
DECODER = """
model_type: gpt2
n_embd: 32
n_layer: 1
n_head: 2
n_positions: 64
resid_pdrop: 0.0
embd_pdrop: 0.0
attn_pdrop: 0.0
tokenizer: {model: word_level, vocab_size: 200}
"""
SENTIMENT = """
# A tiny classifier.
task: seq2label
model: scratch:encoder.yaml
train_dir: train.tsv
eval_dir: eval.tsv
predict_dir: eval.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
predict_model_header: cls_tokenize:text:tokens
result_header: text
eval_metrics: auc,acc
source_max_length: 32
per_device_train_batch_size: 8
num_train_epochs: 2
learning_rate: 1e-3
bf16: false
"""
PRONOUNCE = """
# A tiny speller.
task: seq2seq
model: scratch:encoder_decoder.yaml
train_dir: words.tsv
eval_dir: words_eval.tsv
predict_dir: words_eval.tsv
train_header: letters,phones
train_model_header: s2s_tokenize:letters:phones:tokens
predict_model_header: s2s_tokenize:letters:tokens
result_header: letters
eval_metrics: token_error_rate,bleu
max_new_tokens: 12
num_beams: 2
num_return_sequences: 2
per_device_train_batch_size: 16
num_train_epochs: 1
learning_rate: 2e-3
bf16: false
"""
SPELL_ON = (
    PRONOUNCE.replace("seq2seq", "causal_lm").replace("s2s_", "causal_").replace("encoder_decoder.yaml", "decoder.yaml")
    + "separator: <s>\n"
)
GUIDED = PRONOUNCE.replace("seq2seq", "guided_seq2seq") + "latent_class: 3\nselected_class: 1\n"


def _head(name: str, rows: int) -> str:
    with (SAMPLE / name).open(encoding="utf-8") as file:
        return "".join(line for _, line in zip(range(rows), file, strict=False))


def lay_out(folder: Path) -> Path:
    """Writes the scenes, their data and models into a folder."""
    files = {
        "encoder.yaml": ENCODER,
        "encoder_decoder.yaml": ENCODER_DECODER,
        "sentiment.yaml": SENTIMENT,
        "pronounce.yaml": PRONOUNCE,
        "decoder.yaml": DECODER,
        "spell_on.yaml": SPELL_ON,
        "guided.yaml": GUIDED,
        "train.tsv": _head("sentiment/train.tsv", 203),
        "eval.tsv": _head("sentiment/eval.tsv", 61),
        "words.tsv": _head("pronounce/train.tsv", 303),
        "words_eval.tsv": _head("pronounce/eval.tsv", 41),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the scenes, their data and models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lay_out(tmp_path)


Deepgen = Callable[..., "subprocess.CompletedProcess[str]"]
DEEPGEN = (sys.executable, "-m", "deepgen.controller.cli")


@pytest.fixture
def deepgen(place: Path) -> Deepgen:
    """Runs the command in the working folder, as a person would, with one thread a rank."""

    def run(*arguments: str, exits: int = 0) -> subprocess.CompletedProcess[str]:
        return call([*DEEPGEN, *arguments], place, exits)

    return run


def call(
    command: Sequence[str], folder: Path, exits: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end and insists on its exit code."""
    there = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, timeout=300)
    assert done.returncode == exits, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def at_once(deepgen: Deepgen, *commands: Sequence[str]) -> "list[subprocess.CompletedProcess[str]]":
    """Runs commands that do not wait for each other at the same time: most of a short run keeps one core busy."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda words: deepgen(*words), commands))


@dataclass(frozen=True)
class Finished:
    """A run that is over, for many tests to look at; whoever changes its folder takes a copy."""

    place: Path
    """The working folder, as `place` has it."""
    name: str
    """Of the scene."""
    said: str
    """On standard error; there was nothing on standard output."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.place / "runs" / self.name

    @property
    def model(self) -> str:
        """The model folder."""
        return str(self.folder / "model")


def _finished(place: Path, name: str, *settings: str) -> Finished:
    command = [*DEEPGEN, "run", f"{name}.yaml", "--num_ranks", "2", *settings]
    done = call(command, lay_out(place), XDG_CACHE_HOME=str(place / "cache"))
    assert done.stdout == ""
    return Finished(place, name, done.stderr)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run of sentiment.yaml on two ranks, recorded in MLflow."""
    return _finished(tmp_path_factory.mktemp("classifier"), "sentiment")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run of spell_on.yaml on two ranks, ZeRO 1."""
    return _finished(tmp_path_factory.mktemp("decoder"), "spell_on", "--zero_stage", "1", "--tracking", "false")
