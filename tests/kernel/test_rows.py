from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepgen.kernel import readers
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.rows import Block, Reject, report, source, texts
from deepgen.kernel.scene import Scene

MakeScene = Callable[..., Scene]


def read(scene: Scene) -> tuple[list[list[Any]], list[Reject], list[str]]:
    """(rows as lists with number and line in front, rejects, notices)."""
    notices: list[str] = []
    given_source = source(scene, "train")
    blocks: list[Block] = [readers.parse(given_source, chunk) for chunk in readers.chunks(given_source, notices.append)]
    rows = [
        [int(number), int(line), *fields]
        for block in blocks
        for number, line, *fields in zip(
            block.rows, block.lines, *(column.to_pylist() for column in block.columns), strict=True
        )
    ]
    return rows, [reject for block in blocks for reject in block.rejects], notices


def test_tsv_keeps_everything_but_tabs_and_line_feeds(make_scene: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    text = 'a "quoted\u2028text\x0b\t1\n\t0\nlone \r and \x85 and # \\n\t\n last \t2'
    file.write_bytes(text.encode())
    rows, rejects, notices = read(make_scene(file))
    assert rows == [
        [0, 1, 'a "quoted\u2028text\x0b', "1"],
        [1, 2, "", "0"],
        [2, 3, "lone \r and \x85 and # \\n", ""],
        [3, 4, " last ", "2"],
    ]
    assert (rejects, notices) == ([], [])


def test_blank_lines_are_rows_of_a_file_with_one_column(make_scene: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_bytes(b"\na\n\n\n")
    rows, rejects, _ = read(make_scene(file, "text", "letters:text:ids"))
    assert [row[2] for row in rows] == ["", "a", "", ""]
    assert not rejects


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff"))] * 2)),
    st.integers(1, 40),
)
def test_tsv_round_trip_at_any_block_size(
    make_scene: MakeScene, tmp_path: Path, rows: list[tuple[str, str]], block: int
) -> None:
    file = tmp_path / "rows.tsv"
    file.write_bytes("".join(f"{text}\t{label}\n" for text, label in rows).encode())
    kept, readers.BLOCK = readers.BLOCK, block
    try:
        found, rejects, _ = read(make_scene(file))
    finally:
        readers.BLOCK = kept
    assert [tuple(row[2:]) for row in found] == rows
    assert [row[0] for row in found] == list(range(len(rows)))
    assert not rejects


def test_bad_tsv_rows_are_named_exactly(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.tsv").write_bytes(b"good\t1\nno label\na\tb\tc\n\ncaf\xe9\t0\nlast\t0\n")
    rows, rejects, _ = read(make_scene("rows.tsv"))
    assert rows == [[0, 1, "good", "1"], [5, 6, "last", "0"]]
    assert [str(reject) for reject in rejects] == [
        "rows.tsv:2: has 1 field where train_header names 2",
        "rows.tsv:3: has 3 fields where train_header names 2",
        "rows.tsv:4: has 1 field where train_header names 2",
        "rows.tsv:5: is not UTF-8 text",
    ]
    assert [reject.text for reject in rejects] == ["no label", "a\tb\tc", "", "caf\\xe9\t0"]
    assert [reject.row for reject in rejects] == [1, 2, 3, 4]


def test_a_header_line_is_no_row(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.tsv").write_bytes(b"text\tlabels\na\t1\ntext\tlabels\n")
    rows, rejects, _ = read(make_scene("rows.tsv"))
    assert rows == [[1, 2, "a", "1"], [2, 3, "text", "labels"]]
    assert [str(reject) for reject in rejects] == [
        "rows.tsv:1: holds the names of the columns; a TSV file has no header line"
    ]


def test_windows_line_ends_and_byte_order_mark(make_scene: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_bytes(b"\xef\xbb\xbfa\t1\r\nb\t0\r\n")
    rows, _, notices = read(make_scene(file))
    assert [row[2:] for row in rows] == [["a", "1"], ["b", "0"]]
    assert len(notices) == 1
    assert "Windows line ends" in notices[0]


def test_folder_glob_and_gz(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "b.tsv").write_bytes(b"b\t1")
    (folder / "a.txt").write_bytes(b"a\t0\n")
    (folder / ".hidden").write_bytes(b"hidden\n")
    with gzip.open(folder / "c.tsv.gz", "wb") as out:
        out.write(b"c\t2\n")
    (folder / "empty.tsv").touch()
    expected = [[0, 1, "a", "0"], [1, 1, "b", "1"], [2, 1, "c", "2"]]
    assert read(make_scene(folder))[0] == expected
    assert [row[2] for row in read(make_scene(folder / "*.tsv*"))[0]] == ["b", "c"]
    (folder / "c.tsv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"c.tsv.gz: cannot be read as tsv: Not a gzipped file"):
        read(make_scene(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.tsv", "no such file or folder"), ("*.none", "matches no file"), ("void", "is a folder without files")],
)
def test_missing_input_names_the_setting(make_scene: MakeScene, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="--train_dir = ") as caught:
        source(make_scene(tmp_path / name), "train")
    assert message in str(caught.value)
    with pytest.raises(SceneError, match="eval_dir is not set"):
        source(make_scene(tmp_path / name), "eval")


def test_csv_finds_columns_by_name(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = b'\xef\xbb\xbflabels,id,text\r\n1,x,"two\nlines, ""quoted"""\r\n\r\n0,y\r\n2,z,caf\xe9\r\n0,w,\r\n'
    Path("rows.csv").write_bytes(rows)
    found, rejects, _ = read(make_scene("rows.csv"))
    assert found == [[0, 2, 'two\nlines, "quoted"', "1"], [3, 7, "", "0"]]
    assert [str(reject) for reject in rejects] == [
        "rows.csv:5: has 2 fields where the first line has 3",
        "rows.csv:6: is not UTF-8 text",
    ]
    with pytest.raises(DataError, match=r"rows.csv:1: the first line has no column 'txt', .*did you mean 'text'"):
        read(make_scene("rows.csv", "txt,labels", "letters:txt:ids"))
    Path("rows.csv").write_bytes(b'text,labels\n"open,1\n')
    assert [str(reject) for reject in read(make_scene("rows.csv"))[1]] == [
        "rows.csv:2: is not CSV: unexpected end of data"
    ]


def test_jsonl_values_become_text(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values: list[Any] = ["a\tb", 1.5, 7, True, [0.5, 1], None, {"a": 1}]
    lines = [json.dumps({"labels": 1, "text": value, "more": 0}) for value in values]
    Path("rows.jsonl").write_text(
        "\n".join([*lines, "", "[1]", "{", '{"text": "x"}', '{"text": "\\ud800", "labels": 1}']), encoding="utf-8"
    )
    found, rejects, _ = read(make_scene("rows.jsonl"))
    assert [row[2] for row in found] == ["a\tb", "1.5", "7", "1", "0.5,1"]
    assert [row[1] for row in found] == [1, 2, 3, 4, 5]
    assert [str(reject) for reject in rejects] == [
        "rows.jsonl:6: text = 'null' has no value",
        "rows.jsonl:7: text = '{\"a\": 1}' is no text, number or list of such",
        "rows.jsonl:9: is no JSON object",
        "rows.jsonl:10: is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "rows.jsonl:11: labels = 'null' has no value",
        "rows.jsonl:12: text = '\"\\ud800\"' is no text, number or list of such",
    ]


def test_parquet_values_become_text(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {
        "labels": [1, 2, None],
        "text": [[0.5, 1.0], [], [2.0]],
        "flag": [True, False, True],
        "odd": [{"a": 1}] * 3,
    }
    pq.write_table(pa.table(table), "rows.parquet")
    found, rejects, _ = read(make_scene("rows.parquet", "text,labels,flag"))
    assert found == [[0, 1, "0.5,1", "1", "1"], [1, 2, "", "2", "0"]]
    assert [str(reject) for reject in rejects] == ["rows.parquet:3: labels = '' has no value"]
    with pytest.raises(DataError, match=r"rows.parquet: column 'odd' is of type struct<a: int64>"):
        read(make_scene("rows.parquet", "odd", "letters:odd:ids"))
    Path("rows.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"rows.parquet: cannot be read as parquet"):
        read(make_scene("rows.parquet"))


def test_a_data_set_of_the_hub_library(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text,labels\na,1\nb,0\n", encoding="utf-8")
    assert read(make_scene(f"hub:{folder}"))[0] == [[0, 1, "a", "1"], [1, 2, "b", "0"]]
    with pytest.raises(DataError, match=r"--train_dir: data set '.*', split 'nope'"):
        read(make_scene(f"hub:{folder}:nope"))


def test_cut_gives_any_rows_of_a_chunk(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("".join(f"t{n}\t{n}\n" for n in range(9)), encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text,labels\n" + "".join(f"t{n},{n}\n" for n in range(9)), encoding="utf-8")
    pq.write_table(pa.table({"text": [f"t{n}" for n in range(9)], "labels": range(9)}), tmp_path / "rows.parquet")
    for name, first_line in (("rows.tsv", 1), ("rows.csv", 2), ("rows.parquet", 1)):
        given_source = source(make_scene(tmp_path / name), "train")
        (chunk,) = readers.chunks(given_source)
        for begin, end in ((0, 9), (0, 3), (4, 4), (2, 7), (8, 9)):
            block = readers.parse(given_source, readers.cut(chunk, begin, end))
            assert block.columns[0].to_pylist() == [f"t{n}" for n in range(begin, end)]
            assert block.rows.tolist() == list(range(begin, end))
            assert block.lines.tolist() == [n + first_line for n in range(begin, end)]


def test_texts_and_rejects_file(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("a\tb\nonly one\nc\td\n", encoding="utf-8")
    given_source = source(make_scene(tmp_path / "rows.tsv"), "train")
    assert list(texts(given_source, ["labels", "text"])) == ["b", "d", "a", "c"]
    notices: list[str] = []
    bad = Reject(1, "f.tsv", 2, "text", "a\tb", "is bad", "a\tb\tc")
    for _ in range(2):  # a run that goes on finds the same row
        notices.clear()
        report([bad], "quarantine", tmp_path / "out" / "rejects.tsv", notices.append)
    assert (tmp_path / "out" / "rejects.tsv").read_text() == "f.tsv\t2\ttext\ta\\tb\tis bad\ta\tb\tc\n"
    assert notices == [
        f"1 bad row was left out, written to {tmp_path}/out/rejects.tsv; the first: f.tsv:2: text = 'a\tb' is bad"
    ]


def test_the_format_may_be_said(make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text("labels,text\n1,fine\n")
    assert read(make_scene("rows.txt", file_format="csv"))[0] == [[0, 2, "fine", "1"]]
    assert read(make_scene("rows.txt", file_format="jsonl"))[0] == []
