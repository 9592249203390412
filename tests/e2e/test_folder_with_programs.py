"""A model folder whose scene has a processor and an outputter in a program predicts as the run did, in every way."""

import subprocess
from pathlib import Path

from deepgen.kernel.connections import end_all
from deepgen.kernel.realtime import load

from .conftest import DEEPGEN, Deepgen

PLUGIN = '''
"""A processor and an outputter."""
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Outputter, Processor
from deepgen.kernel.registry import outputter, processor


@processor("length_there")
@dataclass
class LengthThere(Processor):
    """The length of a text."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        return {self.output: pa.array([len(text) for text in columns[0].to_pylist()])}


@outputter("best_there")
@dataclass
class BestThere(Outputter):
    """Text and the best class."""

    fits = frozenset({"single_label_classification"})

    def columns(self, problem, result_columns):
        return (*result_columns, "best")

    def format(self, predictions):
        best = [f"{row:.6f}" for row in predictions.scores.max(1)]
        return [f"{text}\\t{one}\\n" for text, one in zip(predictions.columns["text"], best, strict=True)]
'''
SCENE = """
# A processor and an outputter in a program of their own.
task: seq2label
model: scratch:encoder.yaml
plugin: ["exec:{command} plugin serve own.py"]
train_dir: train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
predict_dir: eval.tsv
predict_model_header: cls_tokenize:text:tokens,length_there:text:length
result_header: text
output_type: best_there
outputter_num_workers: 2
source_max_length: 32
max_steps: 2
bf16: false
tracking: false
"""


def test_it_predicts_by_files_by_lines_and_in_memory(place: Path, deepgen: Deepgen) -> None:
    (place / "own.py").write_text(PLUGIN)
    (place / "mixed.yaml").write_text(SCENE.format(command=" ".join(DEEPGEN)))
    deepgen("run", "mixed.yaml", "--num_ranks=2")
    wanted = (place / "runs" / "mixed" / "predict.txt").read_text().splitlines()
    texts = [line.split("\t")[0] for line in (place / "eval.tsv").read_text().splitlines()]
    assert [line.split("\t")[0] for line in wanted] == texts
    best = [float(line.split("\t")[1]) for line in wanted]

    deepgen("predict", "--from", "runs/mixed", "--predict_dir=eval.tsv", "--output_dir=again")
    assert (place / "again" / "predict.txt").read_text().splitlines() == wanted

    command = [*DEEPGEN, "predict", "--from", "runs/mixed", "--predict_header=text"]
    piped = subprocess.run(command, input="\n".join(texts), capture_output=True, text=True, cwd=place, check=True)
    found = [line.split("\t") for line in piped.stdout.splitlines()]
    assert [one[0] for one in found] == texts
    assert all(abs(float(one[1]) - score) <= 2e-6 for one, score in zip(found, best, strict=True))

    rows = load(place / "runs" / "mixed", predict_header="text").predict([{"text": text} for text in texts])
    end_all()
    assert [row["text"] for row in rows if row] == texts
    assert all(row and abs(float(row["best"]) - score) <= 2e-6 for row, score in zip(rows, best, strict=True))
