"""Makes the input of the benchmarks: docstrings of installed packages as text pairs, and small models of new weights.

    python benchmarks/data.py [FOLDER]

Pairs are cut so that their length in tokens is log-normal: median 43, mean 48, 90 % below 78, 99 % below 127, at most
223.
"""

from __future__ import annotations

import ast
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / ".work"
PAIRS, EVAL_PAIRS = 20_000, 1_024
SUMMARIES, EVAL_SUMMARIES = 10_000, 384


def docstrings() -> Iterator[str]:
    """Docstrings of every installed package, in the order of the files, one line each."""
    import numpy

    for file in sorted(Path(numpy.__file__).parent.parent.rglob("*.py")):
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and "\n" in text and len(text) > 200:
                    yield text


def tokenizer(texts: list[str], kind: str) -> Any:
    """A tokenizer of 8,000 pieces trained on the texts: WordPiece for BERT, byte-level BPE for BART."""
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
    from transformers import BartTokenizerFast, BertTokenizerFast

    folder = WORK / f"{kind}-tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "bert":
        trained = BertWordPieceTokenizer()
        trained.train_from_iterator(texts, vocab_size=8000)
        trained.save(str(folder / "tokenizer.json"))
        return BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), model_max_length=512)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=8000, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained.save_model(str(folder))
    from transformers import AutoTokenizer

    (folder / "config.json").write_text(json.dumps({"model_type": "bart"}))
    made = AutoTokenizer.from_pretrained(folder, model_max_length=512)
    assert isinstance(made, BartTokenizerFast) or made.is_fast
    return made


def main(work: Path = WORK) -> None:
    """Writes everything into the folder; does nothing when it is there."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration, BertConfig, BertForSequenceClassification

    if (work / "done").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    chance = random.Random(1)
    texts = []
    for text in docstrings():
        head, _, body = text.partition("\n")
        texts.append((" ".join(head.split()), " ".join(body.split())))
        if len(texts) >= 60_000:
            break
    chance.shuffle(texts)
    bert = tokenizer([f"{head} {body}" for head, body in texts[:20_000]], "bert")
    rows = []
    for head, body in texts:
        wanted = min(223, round(chance.lognormvariate(3.761, 0.465)))
        query = bert(head, truncation=True, max_length=max(4, wanted // 3), return_offsets_mapping=True)[
            "offset_mapping"
        ]
        spans = bert(body, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
        room = wanted - len(query) - 1
        if room < 1 or len(spans) < room or len(query) < 3:
            continue
        rows.append(f"{head[: query[-2][1]]}\t{body[: spans[room - 1][1]]}\t{chance.randrange(2)}\n")
        if len(rows) == PAIRS + EVAL_PAIRS:
            break
    (work / "cls_train.tsv").write_text("".join(rows[:PAIRS]), encoding="utf-8")
    (work / "cls_eval.tsv").write_text("".join(rows[PAIRS:]), encoding="utf-8")
    summaries = [f"{body[:400]}\t{head[:80]}\n" for head, body in texts if len(body) > 60 and len(head) > 10]
    (work / "s2s_train.tsv").write_text("".join(summaries[:SUMMARIES]), encoding="utf-8")
    (work / "s2s_eval.tsv").write_text("".join(summaries[SUMMARIES : SUMMARIES + EVAL_SUMMARIES]), encoding="utf-8")
    torch.manual_seed(1)
    small = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    BertForSequenceClassification(BertConfig(vocab_size=len(bert), num_labels=2, **small)).save_pretrained(
        work / "bert"
    )
    bert.save_pretrained(work / "bert")
    bart = tokenizer([f"{head} {body}" for head, body in texts[:20_000]], "bart")
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
             {"layers": 4, "attention_heads": 4, "ffn_dim": 1024}.items()}  # fmt: skip
    config = BartConfig(vocab_size=len(bart), d_model=256, max_position_embeddings=512, **sides)
    for name in ("pad", "bos", "eos"):
        setattr(
            config, f"{name}_token_id", bart.convert_tokens_to_ids({"pad": "<pad>", "bos": "<s>", "eos": "</s>"}[name])
        )
    config.decoder_start_token_id, config.forced_eos_token_id = config.eos_token_id, None
    BartForConditionalGeneration(config).save_pretrained(work / "bart")
    bart.save_pretrained(work / "bart")
    lengths = sorted(
        len(ids) for ids in bert([r.split("\t")[0] for r in rows], [r.split("\t")[1] for r in rows])["input_ids"]
    )
    share = [lengths[len(lengths) * part // 100] for part in (50, 90, 99)]
    print(f"{len(rows)} pairs, tokens: mean {sum(lengths) / len(lengths):.0f}, median {share[0]}", end="")
    print(f", 90 % {share[1]}, 99 % {share[2]}, max {lengths[-1]}")
    (work / "done").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else WORK)
