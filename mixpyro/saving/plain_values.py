"""Values in the form in which PyTorch writes them, read without running any code."""

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

# Values that hold others, and marks of values that are not complete yet: bounds on the memory that a file can take.
MOST_CONTAINERS, MOST_MARKS = 2**20, 1000
# What `torch.save` names in a file of plain values and tensors. None of it is imported or called.
ORDERED, TENSOR, PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
STORAGES = {
    f"torch {name}Storage"
    for name in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
}


class Name(NamedTuple):
    """A name that a file mentions, for which there is no value."""

    text: str


class Storage(NamedTuple):
    """A record of the file that holds the numbers of tensors."""

    kind: str  # such as ``torch DoubleStorage``
    key: str
    n_numbers: int


class View(NamedTuple):
    """Which numbers of a storage a tensor has."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(data: bytes, tensor_of: Callable[[View], Tensor]) -> Any:  # noqa: ANN401
    """Return the value that a record of instructions describes.

    They are those of pickle's protocol 2 that dicts, lists, tuples, numbers, strings and plain tensors need; no other
    is known. Nothing that the record names is imported or called.

    Args:
        data: the record.
        tensor_of: returns the tensor of a view.

    Raises:
        ValueError: if it has other instructions, or is not complete.
    """
    try:
        return _Reader(data, tensor_of).value()
    except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("it is damaged") from error


class _Reader:
    """A stack of values, which the instructions put values on and take them from."""

    def __init__(self, data: bytes, tensor_of: Callable[[View], Tensor]) -> None:
        self.data, self.tensor_of, self.place = data, tensor_of, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.n_containers = 0

    def value(self) -> Any:  # noqa: ANN401
        """Follow the instructions to the end, and return the value that they leave."""
        if self._bytes(2) != b"\x80\x02":
            raise ValueError("it is of another protocol")
        while (code := self._bytes(1)) != b".":
            INSTRUCTIONS[code](self)
        (found,) = self.stack
        if self.place != len(self.data) or self.marks:
            raise ValueError("it has more than one value")
        return found

    def _bytes(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self.data[self.place : self.place + size]
        if len(found) < size:
            raise ValueError("it is not complete")
        self.place += size
        return found

    def _number(self, form: str) -> Any:  # noqa: ANN401
        """Return a number of the next bytes."""
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _line(self) -> str:
        """Return the text up to the end of a line."""
        end = self.data.index(b"\n", self.place)
        found, self.place = self.data[self.place : end].decode(), end + 1
        return found

    def _since_mark(self) -> list[Any]:
        """Take the values since the last mark off the stack."""
        mark = self.marks.pop()
        if mark > len(self.stack):
            raise ValueError("it is damaged")
        found, self.stack[mark:] = self.stack[mark:], []
        return found

    def mark(self) -> None:
        """Remember the place on the stack."""
        self.marks.append(len(self.stack))
        if len(self.marks) > MOST_MARKS:
            raise ValueError("it is nested too deep")

    def text(self) -> None:
        """Put a string on the stack."""
        self.stack.append(self._bytes(self._number("<I")).decode("utf-8", "surrogatepass"))

    def long(self) -> None:
        """Put a large integer on the stack."""
        self.stack.append(int.from_bytes(self._bytes(self._number("<B")), "little", signed=True))

    def container(self, value: Any) -> None:  # noqa: ANN401
        """Put a value that holds others on the stack."""
        self.n_containers += 1
        if self.n_containers > MOST_CONTAINERS:
            raise ValueError("it has too many values")
        self.stack.append(value)

    def few(self, size: int) -> None:
        """Replace the last values by a tuple of them."""
        if size > len(self.stack):
            raise ValueError("it is damaged")
        found, self.stack[-size:] = tuple(self.stack[-size:]), []
        self.container(found)

    def append(self, values: list[Any]) -> None:
        """Append values to the list before them."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it is damaged")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Set keys and values of the dict before them."""
        target, names = self.stack[-1], values[::2]
        if not isinstance(target, dict) or len(values) % 2 or not all(type(name) in (str, int) for name in names):
            raise ValueError("it is damaged")
        target.update(zip(names, values[1::2], strict=True))

    def name(self) -> None:
        """Put a name on the stack."""
        found = f"{self._line()} {self._line()}"
        if found not in (ORDERED, TENSOR, PARAMETER, *STORAGES):
            raise ValueError(f"it names {found[:100]!r}, which no file of mixpyro does")
        self.stack.append(Name(found))

    def storage(self) -> None:
        """Replace the description of a storage by the storage."""
        word, kind, key, _, size = self.stack.pop()
        if word != "storage" or not isinstance(kind, Name) or kind.text not in STORAGES:
            raise ValueError("it is damaged")
        if type(key) is not str or type(size) is not int:
            raise ValueError("it is damaged")
        self.stack.append(Storage(kind.text, key, size))

    def result(self) -> None:
        """Replace a name and a tuple by what they stand for: an ordered dict, a tensor or a parameter."""
        values, name = self.stack.pop(), self.stack.pop()
        if type(name) is not Name or type(values) is not tuple:
            raise ValueError("it is damaged")
        if name.text == ORDERED and values == ():
            self.container(OrderedDict())
        elif name.text == TENSOR:
            storage, offset, shape, strides, _, hooks = values
            if type(storage) is not Storage or hooks != {}:
                raise ValueError("it is damaged")
            self.container(self.tensor_of(View(storage, offset, shape, strides)))
        elif name.text == PARAMETER and isinstance(values[0], Tensor):
            self.stack.append(values[0])
        else:
            raise ValueError("it is damaged")

    def attributes(self) -> None:
        """Set the versions of the modules of a state dict, the only attributes that a value may have."""
        versions = self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict or set(versions) != {"_metadata"}:
            raise ValueError("it has values with attributes")
        vars(self.stack[-1])["_metadata"] = versions["_metadata"]

    def remember(self, number: int) -> None:
        """Remember the last value by a number."""
        self.memo[number] = self.stack[-1]


INSTRUCTIONS: dict[bytes, Callable[[_Reader], Any]] = {
    b"(": _Reader.mark,
    b"N": lambda reader: reader.stack.append(None),
    b"\x88": lambda reader: reader.stack.append(True),
    b"\x89": lambda reader: reader.stack.append(False),
    b"K": lambda reader: reader.stack.append(reader._number("<B")),
    b"M": lambda reader: reader.stack.append(reader._number("<H")),
    b"J": lambda reader: reader.stack.append(reader._number("<i")),
    b"\x8a": _Reader.long,
    b"G": lambda reader: reader.stack.append(reader._number(">d")),
    b"X": _Reader.text,
    b"}": lambda reader: reader.container({}),
    b"]": lambda reader: reader.container([]),
    b")": lambda reader: reader.stack.append(()),
    b"\x85": lambda reader: reader.few(1),
    b"\x86": lambda reader: reader.few(2),
    b"\x87": lambda reader: reader.few(3),
    b"t": lambda reader: reader.container(tuple(reader._since_mark())),
    b"a": lambda reader: reader.append([reader.stack.pop()]),
    b"e": lambda reader: reader.append(reader._since_mark()),
    b"s": lambda reader: reader.set_items([reader.stack.pop(-2), reader.stack.pop()]),
    b"u": lambda reader: reader.set_items(reader._since_mark()),
    b"q": lambda reader: reader.remember(reader._number("<B")),
    b"r": lambda reader: reader.remember(reader._number("<I")),
    b"h": lambda reader: reader.stack.append(reader.memo[reader._number("<B")]),
    b"j": lambda reader: reader.stack.append(reader.memo[reader._number("<I")]),
    b"c": _Reader.name,
    b"Q": _Reader.storage,
    b"R": _Reader.result,
    b"b": _Reader.attributes,
}
