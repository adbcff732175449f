"""A machine for pickles that builds nothing but what it knows.

In: a pickle.  Out: the object.  Python's own unpickler calls whatever a file names; this one knows
every instruction, too, but each name goes through `Machine.find`, each call through `call`.

`SafeUnpickler` allows containers, numbers, strings and tensors, and what the user adds.
`Outline` calls nothing at all and tells what a file names.

Source: the instructions are documented in Python's `pickletools`.
"""

from __future__ import annotations

import codecs
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, NoReturn

from braze.serialization.sources import Bounded

# A key of nested tuples can take 2 ** depth steps to hash; nobody saves one with as many parts.
_MAX_KEY_PARTS = 10_000
# Not even if the user allows them: this is what every malicious pickle calls.
_NEVER = ("nt", "os", "posix", "sys")
_PLAIN_KEYS = (str, int, float, bool, bytes, complex, type(None))
_FAULTS = (
    *(struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError),
    *(OverflowError, RecursionError),
)


class Mark:
    """What stands on the stack where a list of items begins."""


_MARK = Mark()


def check_key(key: Any) -> None:
    """Raises: UnpicklingError if hashing the key could take for ever."""
    if isinstance(key, _PLAIN_KEYS):
        return
    waiting, seen = [key], 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > _MAX_KEY_PARTS:
            raise UnpicklingError("a key of a dictionary or set has too many parts")
        if isinstance(part, (tuple, frozenset)):
            waiting.extend(part)


class Machine:
    """Runs a pickle; subclasses say what names mean.

    Args:
        file: what it is read from; nothing behind its end is.
        persistent_load: makes what the file has outside the pickle of a description.
        encoding: of the strings that Python 2 wrote; "bytes" leaves them as they are.
    """

    def __init__(
        self, file: Bounded, persistent_load: Callable[[Any], Any], encoding: str = "utf-8"
    ) -> None:
        self._file = file
        self._persistent_load = persistent_load
        self._encoding = encoding
        self._memo: dict[int, Any] = {}
        self._stack: list[Any] = []

    # What subclasses decide -----------------------------------------------------------------------

    def find(self, module: str, name: str) -> Any:
        """What a name stands for."""
        raise NotImplementedError

    def call(self, function: Any, args: Any) -> Any:
        """Call what a name stood for."""
        raise NotImplementedError

    def new(self, kind: Any, args: Any, kwargs: Any) -> Any:
        """Make an instance without initialising it."""
        raise NotImplementedError

    def build(self, made: Any, state: Any) -> None:
        """Give an instance its state."""
        raise NotImplementedError

    def fill_dict(self, target: Any, items: list[Any]) -> None:
        """Put keys and values, in turn, into a dictionary."""
        if not isinstance(target, dict) or len(items) % 2:
            raise UnpicklingError(f"items are put into a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(key)
            target[key] = value

    def extend(self, target: Any, items: list[Any]) -> None:
        """Append to a list."""
        if not isinstance(target, list):
            raise UnpicklingError(f"items are appended to a {type(target).__name__}")
        target.extend(items)

    def add(self, target: Any, items: list[Any]) -> None:
        """Add to a set."""
        if not isinstance(target, set):
            raise UnpicklingError(f"items are added to a {type(target).__name__}")
        target.update(checked_items(items))

    # Running --------------------------------------------------------------------------------------

    def load(self) -> Any:
        """The object.

        Raises:
            UnpicklingError: something in it is not allowed, or makes no sense. EOFError: it ends
                too early. Also what rebuilding tensors raises.
        """
        read, instructions = self._file.read, _INSTRUCTIONS
        try:
            while True:
                code = read(1)[0]
                if code == 0x2E:  # STOP
                    return self._stack.pop()
                instruction = instructions.get(code)
                if instruction is None:
                    raise UnpicklingError(f"unknown instruction {bytes([code])!r}")
                instruction(self)
        except _FAULTS as error:
            raise UnpicklingError(
                f"the pickle is damaged, or does what Braze does not know: {type(error).__name__}: "
                f"{error}"
            ) from error

    def _number(self, code: str, size: int) -> Any:
        return struct.unpack(code, self._file.read(size))[0]

    def _text(self, size: int) -> str:
        return self._file.read(size).decode("utf-8", "surrogatepass")

    def _old_text(self, data: bytes) -> Any:
        return data if self._encoding == "bytes" else data.decode(self._encoding)

    def _line(self) -> str:
        line = self._file.readline()
        if line[-1:] != b"\n":
            raise EOFError("Ran out of input")
        return line[:-1].decode()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _items(self) -> list[Any]:
        """What was pushed since the last mark."""
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise UnpicklingError("a list of items without a beginning")

    def _tuple(self, size: int) -> None:
        stack = self._stack
        if len(stack) < size:
            raise UnpicklingError("the stack holds too little")
        made = tuple(stack[len(stack) - size :])
        del stack[len(stack) - size :]
        stack.append(made)

    def _protocol(self) -> None:
        version = self._file.read(1)[0]
        if version > 5:
            raise UnpicklingError(f"unsupported pickle protocol: {version}")

    def _reduce(self) -> None:
        args = self._stack.pop()
        self._push(self.call(self._stack.pop(), args))

    def _new(self) -> None:
        args = self._stack.pop()
        self._push(self.new(self._stack.pop(), args, {}))

    def _new_with_keywords(self) -> None:
        kwargs = self._stack.pop()
        args = self._stack.pop()
        self._push(self.new(self._stack.pop(), args, kwargs))

    def _instance(self) -> None:
        module, name = self._line(), self._line()
        items = self._items()
        self._push(self.call(self.find(module, name), tuple(items)))

    def _object(self) -> None:
        kind, *args = self._items()
        self._push(self.call(kind, tuple(args)))

    def _state(self) -> None:
        state = self._stack.pop()
        self.build(self._stack[-1], state)

    def _global(self) -> None:
        module = self._line()
        self._push(self.find(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UnpicklingError("a name that is no string")
        self._push(self.find(module, name))

    def _put(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _long(self, size: int) -> None:
        self._push(int.from_bytes(self._file.read(size), "little", signed=True))

    def _decimal(self) -> None:
        text = self._line()
        flags = {"00": False, "01": True}
        self._push(flags[text] if text in flags else int(text))

    def _persistent(self) -> None:
        self._push(self._persistent_load(self._stack.pop()))

    def _dict(self) -> None:
        items = self._items()
        made: dict[Any, Any] = {}
        self.fill_dict(made, items)
        self._push(made)

    def _set_items(self) -> None:
        items = self._items()
        self.fill_dict(self._stack[-1], items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self.fill_dict(self._stack[-1], [key, value])

    def _append(self) -> None:
        item = self._stack.pop()
        self.extend(self._stack[-1], [item])

    def _appends(self) -> None:
        items = self._items()
        self.extend(self._stack[-1], items)

    def _add_items(self) -> None:
        items = self._items()
        self.add(self._stack[-1], items)


def checked_items(items: Any) -> Any:
    """The items, none of which takes for ever to hash."""
    for item in items:
        check_key(item)
    return items


def _unescaped(line: str) -> bytes:
    if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
        raise UnpicklingError("a string without quotes")
    return codecs.escape_decode(line[1:-1].encode())[0]  # type: ignore[attr-defined,no-any-return]


# Each by its byte; `m` is the machine.
_INSTRUCTIONS: dict[int, Callable[[Machine], Any]] = {
    ord(code): instruction
    for code, instruction in {
        # numbers and constants
        "N": lambda m: m._push(None),
        "\x88": lambda m: m._push(True),
        "\x89": lambda m: m._push(False),
        "I": Machine._decimal,
        "L": lambda m: m._push(int(m._line().rstrip("L"))),
        "J": lambda m: m._push(m._number("<i", 4)),
        "K": lambda m: m._push(m._file.read(1)[0]),
        "M": lambda m: m._push(m._number("<H", 2)),
        "\x8a": lambda m: m._long(m._file.read(1)[0]),
        "\x8b": lambda m: m._long(m._number("<I", 4)),
        "F": lambda m: m._push(float(m._line())),
        "G": lambda m: m._push(m._number(">d", 8)),
        # strings
        "S": lambda m: m._push(m._old_text(_unescaped(m._line()))),
        "T": lambda m: m._push(m._old_text(m._file.read(m._number("<I", 4)))),
        "U": lambda m: m._push(m._old_text(m._file.read(m._file.read(1)[0]))),
        "V": lambda m: m._push(m._file.readline()[:-1].decode("raw-unicode-escape")),
        "X": lambda m: m._push(m._text(m._number("<I", 4))),
        "\x8c": lambda m: m._push(m._text(m._file.read(1)[0])),
        "\x8d": lambda m: m._push(m._text(m._number("<Q", 8))),
        "B": lambda m: m._push(m._file.read(m._number("<I", 4))),
        "C": lambda m: m._push(m._file.read(m._file.read(1)[0])),
        "\x8e": lambda m: m._push(m._file.read(m._number("<Q", 8))),
        "\x96": lambda m: m._push(bytearray(m._file.read(m._number("<Q", 8)))),
        # containers
        "(": lambda m: m._push(_MARK),
        ")": lambda m: m._push(()),
        "t": lambda m: m._push(tuple(m._items())),
        "\x85": lambda m: m._tuple(1),
        "\x86": lambda m: m._tuple(2),
        "\x87": lambda m: m._tuple(3),
        "]": lambda m: m._push([]),
        "l": lambda m: m._push(m._items()),
        "a": Machine._append,
        "e": Machine._appends,
        "}": lambda m: m._push({}),
        "d": Machine._dict,
        "s": Machine._set_item,
        "u": Machine._set_items,
        "\x8f": lambda m: m._push(set()),
        "\x90": Machine._add_items,
        "\x91": lambda m: m._push(frozenset(checked_items(m._items()))),
        # the stack and the memo
        "0": lambda m: m._stack.pop(),
        "1": lambda m: m._items(),
        "2": lambda m: m._push(m._stack[-1]),
        "q": lambda m: m._put(m._file.read(1)[0]),
        "r": lambda m: m._put(m._number("<I", 4)),
        "p": lambda m: m._put(int(m._line())),
        "\x94": lambda m: m._put(len(m._memo)),
        "h": lambda m: m._push(m._memo[m._file.read(1)[0]]),
        "j": lambda m: m._push(m._memo[m._number("<I", 4)]),
        "g": lambda m: m._push(m._memo[int(m._line())]),
        # names and objects
        "c": Machine._global,
        "\x93": Machine._stack_global,
        "R": Machine._reduce,
        "i": Machine._instance,
        "o": Machine._object,
        "\x81": Machine._new,
        "\x92": Machine._new_with_keywords,
        "b": Machine._state,
        "Q": Machine._persistent,
        "P": lambda m: m._push(m._persistent_load(m._line())),
        # the envelope
        "\x80": Machine._protocol,
        "\x95": lambda m: m._file.read(8),
    }.items()
}


class SafeUnpickler(Machine):
    """Builds what `names` says, instances of the classes in `added`, and nothing else.

    Args:
        names: what each known "module.name" stands for.
        added: the same for what the user trusts; of these, classes may also be made without their
            constructor and given a state.
    """

    def __init__(
        self,
        file: Bounded,
        persistent_load: Callable[[Any], Any],
        names: dict[str, Any],
        added: dict[str, Any],
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(file, persistent_load, encoding)
        self._names = {**names, **added}
        self._callable = {id(value) for value in self._names.values() if callable(value)}
        self._added = [value for value in added.values() if isinstance(value, type)]

    def find(self, module: str, name: str) -> Any:
        full = full_name(module, name)
        if full.split(".", 1)[0] in _NEVER or full not in self._names:
            _refuse(full)
        return self._names[full]

    def call(self, function: Any, args: Any) -> Any:
        if id(function) not in self._callable or type(args) is not tuple:
            raise UnpicklingError(f"a {type(function).__name__} is called, which is not allowed")
        return function(*args)

    def new(self, kind: Any, args: Any, kwargs: Any) -> Any:
        if any(kind is added for added in self._added):
            return kind.__new__(kind, *args, **kwargs)
        raise UnpicklingError(f"an instance of {kind!r} is made, which is not allowed")

    def build(self, made: Any, state: Any) -> None:
        own = any(type(made) is kind for kind in self._added)
        if own and hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif own and isinstance(state, tuple) and len(state) == 2:  # a class with slots
            if state[0]:
                made.__dict__.update(state[0])
            for name, value in state[1].items():
                setattr(made, name, value)
        elif own or type(made) is OrderedDict:
            if type(state) is not dict or not all(type(key) is str for key in state):
                raise UnpicklingError("a state that is no dictionary")
            made.__dict__.update(state)
        else:
            raise UnpicklingError(f"a {type(made).__name__} is given a state, which is not allowed")


def full_name(module: str, name: str) -> str:
    """A global's name in Python 3, whichever Python wrote it."""
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _refuse(name: str) -> NoReturn:
    raise UnpicklingError(
        f"Weights only load failed: the file wants {name}, which is not allowed by default, since "
        "what a file names could run any code. If you trust it, allow it with "
        f"`braze.serialization.add_safe_globals([{name}])` or inside `with "
        f"braze.serialization.safe_globals([{name}]):`. If you trust the file, load all of it with "
        "`weights_only=False`."
    )


class Unknown:
    """What an `Outline` has in place of everything that is made by calling something."""

    def __hash__(self) -> int:
        return id(self)


class Outline(Machine):
    """Goes through a pickle and calls nothing.

    Attributes:
        names: all that it names, as "module.name".
    """

    def __init__(
        self, file: Bounded, persistent_load: Callable[[Any], Any], kinds: dict[str, Any]
    ) -> None:
        super().__init__(file, persistent_load, "latin-1")
        self._kinds = kinds
        self.names: set[str] = set()

    def find(self, module: str, name: str) -> Any:
        full = full_name(module, name)
        self.names.add(full)
        return self._kinds.get(full) or Unknown()

    def call(self, function: Any, args: Any) -> Any:
        return Unknown()

    def new(self, kind: Any, args: Any, kwargs: Any) -> Any:
        return Unknown()

    def build(self, made: Any, state: Any) -> None:
        pass

    def fill_dict(self, target: Any, items: list[Any]) -> None:
        pass

    def extend(self, target: Any, items: list[Any]) -> None:
        pass

    def add(self, target: Any, items: list[Any]) -> None:
        pass
