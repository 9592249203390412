"""`replace`: reaches what modules hold, says what it does not reach, and leaves everything as it was when undone."""

from __future__ import annotations

import functools
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deepgen.kernel.errors import PluginError
from deepgen.kernel.replace import Replacement, active, replace

LIBRARY = '''
class Old:
    """The one to be replaced."""
    def __init__(self): self.made_by = "old"
    def who(self): return "old"
    @staticmethod
    def still(): return "old still"
    @classmethod
    def of(cls): return cls.__name__

class Child(Old):
    def who(self): return "child of " + super().who()

def function(text): return "old " + text
def by_name(): return Old().who()
def default(cls=Old, *, other=Old): return cls().who(), other().who()
'''
USER = """
from library_of_test import Old as Renamed, Old, function, function as f2
REGISTRY = {"x": Old, "deep": [{"y": (Old, int)}]}
LISTED = [1, Old]
PAIR = (Old, function)
class Plain: pass
HOLDER = Plain()
HOLDER.kind = Old
HOLDER.kinds = {"z": function}
class Body:
    kind = Old
    run = staticmethod(function)
    def method(self, cls=Old): return cls
def late():
    from library_of_test import Old
    return Old
"""


def make(name: str, code: str) -> Any:
    module: Any = ModuleType(name)
    module.__file__ = f"{name}.py"
    sys.modules[name] = module
    exec(compile(code, module.__file__, "exec"), vars(module))
    return module


@pytest.fixture
def library() -> Iterator[Any]:
    yield make("library_of_test", LIBRARY)
    for done in reversed(active()):
        done.undo()
    for name in [name for name in sys.modules if name.endswith("_of_test")]:
        del sys.modules[name]


@pytest.fixture
def user(library: Any) -> Any:
    return make("user_of_test", USER)


def snapshot(*modules: Any) -> list[Any]:
    """Everything that the modules hold, by identity and in order."""

    def seen(value: Any, depth: int = 20) -> Any:
        if isinstance(value, dict) and depth:
            return [id(value), [(key, seen(item, depth - 1)) for key, item in value.items() if key != "__builtins__"]]
        if isinstance(value, list | tuple) and depth:
            return [id(value), [seen(item, depth - 1) for item in value]]
        if isinstance(value, type) and value.__module__.endswith("_of_test"):
            return [
                id(value),
                value.__bases__,
                seen({k: v for k, v in vars(value).items() if not k.startswith("_")}, depth - 1)[1],
            ]
        if isinstance(value, FunctionType):
            return [id(value), seen(value.__defaults__), seen(value.__kwdefaults__)]
        return [id(value), seen(vars(value), depth - 1)[1]] if type(value).__module__ == "user_of_test" else id(value)

    return [seen(vars(module)) for module in modules]


def subclass(old: type) -> type:
    class New(old):  # type: ignore[misc]
        def who(self) -> str:
            return "new over " + str(super().who())

    return New


def test_a_class_is_replaced_wherever_modules_hold_it(library: Any, user: Any) -> None:
    before, old, new = snapshot(library, user), library.Old, subclass(library.Old)
    with replace("library_of_test.Old", new) as done:
        assert library.Old is user.Old is user.Renamed is user.REGISTRY["x"] is user.LISTED[1] is user.PAIR[0] is new
        assert user.REGISTRY["deep"][0]["y"] == (new, int)
        assert user.HOLDER.kind is user.Body.kind is user.Body().method() is user.late() is new
        assert library.Child.__bases__ == (new,)
        assert library.Child().who() == "child of new over old"
        assert library.by_name() == "new over old"
        assert library.default() == ("new over old", "new over old")
        assert vars(new)["__replaced__"] is old
        assert {"library_of_test.Old", "user_of_test.Renamed", "user_of_test.REGISTRY['deep'][0]['y']"} <= set(
            done.touched
        )
        assert "the base of library_of_test.Child" in done.touched
        assert active()[-1] is done
    assert snapshot(library, user) == before
    assert "__replaced__" not in vars(new)
    assert not active()


def test_a_function_and_a_method(library: Any, user: Any) -> None:
    before = snapshot(library, user)
    with replace(library.function, lambda text: "new " + text):
        names = (library.function, user.function, user.f2, user.PAIR[1], user.HOLDER.kinds["z"], user.Body.run)
        assert {call("x") for call in names} == {"new x"}
    with replace("library_of_test.Old.who", lambda self: "new"):
        assert library.Child().who() == "child of new"
    with replace("library_of_test.Old.still", lambda: "new still"), replace("library_of_test.Old.of", lambda cls: cls):
        assert library.Old().still() == "new still"
        assert library.Old.of() is library.Old
    assert snapshot(library, user) == before


def test_a_decorator_replaces_until_it_is_undone(library: Any, user: Any) -> None:
    @replace("library_of_test.function")
    def function(text: str) -> str:
        return "newer than " + str(vars(function)["__replaced__"](text))

    assert user.f2("x") == "newer than old x"
    late = make("late_of_test", "from library_of_test import function")
    (done,) = active()
    done.undo()
    assert user.f2("x") == late.function("x") == "old x"  # a module that came meanwhile has the old one too
    with pytest.raises(PluginError, match="is not replaced, or no longer"):
        done.undo()


def test_where_the_new_one_is_written_the_old_one_stays(library: Any) -> None:
    code = (
        "from library_of_test import function\nfrom deepgen.kernel.replace import replace\n"
        "@replace(function)\ndef mine(text): return 'mine ' + function(text)\n"
    )
    own = make("own_of_test", code)
    assert library.function("x") == "mine old x"
    assert active()[0].missed[0] == "own_of_test.function: the new one is written there"
    active()[0].undo()
    assert own.mine("x") == "mine old x"


def test_what_is_not_reached_is_named(library: Any) -> None:
    old = library.Old
    instance, partial, closed = old(), functools.partial(old), (lambda cls: lambda: cls)(old)
    arguments, hidden, bound = functools.partial(print, old), {"a": old}, old.of
    library.KEYS, library.SET = {old: 1}, {old}
    with replace(library.Old, subclass(old)) as done:
        told = "\n".join(done.missed)
    for word in (
        "an instance that exists already",
        "a functools.partial",
        "the arguments of a functools.partial",
        "a dict or a class that no module holds",
        "the closure of",
        "as cls",
        "a bound method Old.of",
        "a key of a dict",
        "a set",
    ):
        assert word in told
    assert str(done).startswith("library_of_test.Old is replaced by ")
    assert "  changed: library_of_test.Old\n" in str(done)
    assert "  kept: a functools.partial" in str(done)
    del instance, partial, closed, arguments, hidden, bound
    with replace("zlib.crc32", lambda data: 0) as done:
        assert "code in C that uses it" in done.missed


def test_methods_that_call_their_class_by_name_are_named(library: Any) -> None:
    make("super_of_test", "class Old:\n    def who(self): return super(Old, self).__repr__()\n")
    with replace("super_of_test.Old", subclass(sys.modules["super_of_test"].Old)) as done:
        assert "Old.who calls its class by name, and gets the new one" in done.missed


def test_a_base_that_cannot_change_is_named(library: Any) -> None:
    make("slots_of_test", "class Old:\n    __slots__ = ('a',)\nclass Child(Old):\n    __slots__ = ()\n")
    before = snapshot(sys.modules["slots_of_test"])
    with replace("slots_of_test.Old", type("New", (), {})) as done:
        assert any("the base of slots_of_test.Child" in line and "layout" in line for line in done.missed)
    assert snapshot(sys.modules["slots_of_test"]) == before
    child = library.Child
    with replace(library.Old, subclass(child)) as done:  # the new one stands on a child of the old one
        assert child.__bases__[0] is done.old
        assert any("stands on it itself" in line for line in done.missed)


def test_an_exception_undoes_it_too(library: Any, user: Any) -> None:
    before = snapshot(library, user)
    with pytest.raises(ZeroDivisionError), replace(library.Old, subclass(library.Old)):
        raise ZeroDivisionError
    assert snapshot(library, user) == before


def test_the_later_one_is_undone_first(library: Any, user: Any) -> None:
    before, old = snapshot(library, user), library.Old
    first = replace(old, subclass(old))
    other = replace(library.default, str.upper)
    second = replace(old, subclass(library.Old))  # the old one itself means what is in its place now
    assert second.old is first.new
    assert library.Old().who() == "new over new over old"
    with pytest.raises(PluginError, match=r"undo library_of_test\.Old by .*New first; it came later"):
        first.undo()
    assert library.Old().who() == "new over new over old"
    other.undo()  # shares no place with the others
    second.undo()
    first.undo()
    assert snapshot(library, user) == before


def test_what_somebody_else_changed_since_stays(library: Any, user: Any) -> None:
    with replace(library.Old, subclass(library.Old)) as done:
        user.Renamed = int
        user.LISTED.clear()
        del user.REGISTRY["x"]
    assert user.Renamed is int
    assert user.LISTED == []
    assert "x" not in user.REGISTRY
    assert library.Old is done.old


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: replace("nowhere_at_all.Old", int), "'nowhere_at_all.Old' is no dotted name"),
        (lambda: replace("Old", int), "'Old' is no dotted name"),
        (lambda: replace("library_of_test.Odl", int), r"library_of_test has no 'Odl'; did you mean 'Old'\?"),
        (lambda: replace("library_of_test.__file__", int), "is a str; only a class or a function can be replaced"),
        (lambda: replace("library_of_test.Old", len), "is a class, and builtins.len is none"),
        (lambda: replace("library_of_test.Old", sys.modules["library_of_test"].Old), "replaced by itself"),
        (lambda: replace(lambda: None, len), "nothing that can be reached has"),
        (lambda: replace("library_of_test.Old").__enter__(), "there is nothing in the place of"),
    ],
)
def test_refusals(library: Any, act: Callable[[], Replacement], message: str) -> None:
    before = snapshot(library)
    with pytest.raises(PluginError, match=message):
        act()
    assert snapshot(library) == before
    assert not active()


OLD = "OLD"
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # each try looks through the whole process: no shrinking
VALUES = st.recursive(
    st.one_of(st.just(OLD), st.integers(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=6,
)


def put(value: Any, old: Any) -> Any:
    if isinstance(value, dict):
        return type(value)((key, put(item, old)) for key, item in value.items())
    return (
        type(value)(put(item, old) for item in value)
        if isinstance(value, list | tuple)
        else old
        if value == OLD
        else value
    )


@settings(max_examples=15, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["p", "q", "r", "s"]), VALUES, min_size=1), st.booleans())
def test_whatever_modules_hold_comes_back(library: Any, held: dict[str, Any], is_class: bool) -> None:
    """Of any nesting: where the old one was there is the new one, all else is the same, and undoing gives the old."""
    old = library.Old if is_class else library.function
    new: Any = type("New", (), {}) if is_class else (lambda text: text)
    module = make("held_of_test", "")
    vars(module).update({name: put(value, old) for name, value in held.items()})
    before = snapshot(library, module)
    with replace(old, new):
        for name, value in held.items():
            assert vars(module)[name] == put(value, new)
            assert type(vars(module)[name]) is type(put(value, new))
    assert snapshot(library, module) == before


def test_a_class_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers import BertConfig
    from transformers.models.bert import modeling_bert

    class Counted(modeling_bert.BertSelfAttention):  # type: ignore[misc]
        calls = 0

        def forward(self, *args: Any, **named: Any) -> Any:
            Counted.calls += 1
            return super().forward(*args, **named)

    old = modeling_bert.BertSelfAttention
    config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    torch.manual_seed(0)
    plain = modeling_bert.BertModel(config).eval()
    ids = torch.tensor([[1, 2, 3]])
    with replace("transformers.models.bert.modeling_bert.BertSelfAttention", Counted) as done:
        torch.manual_seed(0)
        swapped = modeling_bert.BertModel(config).eval()
        assert torch.equal(swapped(ids).last_hidden_state, plain(ids).last_hidden_state)
        assert Counted.calls == 2
        told = re.search(r"an instance that exists already \((\d+) times\)", "\n".join(done.missed))
        assert told is not None
        assert int(told[1]) >= 2, "those of other tests' models may be there, too"
    assert modeling_bert.BertSelfAttention is old
    layer: Any = modeling_bert.BertModel(config).encoder.layer[0]
    assert isinstance(layer.attention.self, old)
