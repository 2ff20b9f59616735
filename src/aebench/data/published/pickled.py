"""The data in a pickle: dicts, lists, tuples, numbers and text, and NumPy's arrays of bytes.

Nothing is unpickled. Python's `pickletools` takes a pickle apart into its instructions, and the few that such data need
are followed here. None imports or calls anything: where a pickle names a function, there is its name, and where it
calls one, a `Call`, which says what would be called.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARRAY, _TYPE, _BYTES = "numpy.core.multiarray _reconstruct", "numpy dtype", (b"u1", 0, 1)


@dataclass
class Call:
    """What a pickle would call: the function's name and its arguments; `state`: what the result would be given."""

    function: Any
    arguments: Any
    state: Any = None


def read(content: bytes) -> Any:
    """The data in a pickle of protocol 2, as Python 2 wrote it; its text of bytes stays bytes.

    Raises:
        ValueError: the pickle is damaged, or has an instruction that such data do not need.
    """
    try:
        return _follow(content)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__})") from None


def _follow(content: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def after_mark() -> list[Any]:
        place = marks.pop()
        items = stack[place:]
        del stack[place:]
        return items

    argument: Any
    for instruction, argument, _ in pickletools.genops(content):
        match instruction.name:
            case "PROTO":
                pass
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE" | "GLOBAL":
                stack.append(argument)
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))  # as which `pickletools` has decoded it
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[instruction.name]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(after_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(instruction.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPENDS":
                items = after_mark()
                stack[-1].extend(items)
            case "SETITEMS":
                items = after_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "REDUCE":
                arguments = stack.pop()
                stack.append(Call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"the pickle has the instruction {other}, which data do not need")
    raise ValueError("the pickle breaks off")


def array_of_bytes(call: Any) -> NDArray[np.uint8]:
    """The array of the call that would make it.

    Raises:
        ValueError: it would make no array of uint8.
    """
    match call:
        case Call(
            function=f, state=(_, tuple(shape), Call(function=t, arguments=of), bool(by_columns), bytes(content))
        ):
            if (f, t, of) == (_ARRAY, _TYPE, _BYTES):
                return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
    raise ValueError("the pickle holds no array of bytes where one is expected")
