"""The mapping of label names (`label_mapping` and `convert2multilabel` test what it refuses)."""

from deepgen.kernel.label_names import parse


def test_classes_keep_the_order_of_their_numbers() -> None:
    mapped = parse({"b": "1", "a": " 0"})
    assert (mapped.names, mapped.numbers, mapped.dtype) == (("b", "a"), (1, 0), "int64")
    assert mapped.class_names == ("a", "b")


def test_many_names_are_cut_in_messages() -> None:
    mapped = parse({f"label{number}": str(number) for number in range(30)})
    assert mapped.reason.endswith("label19, …")
