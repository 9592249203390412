# PyArrow makes most of its functions at run time, where a type checker cannot see them: everything in it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
