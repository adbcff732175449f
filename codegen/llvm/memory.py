"""Vector loads and stores: consecutive, strided, gathered, masked.

In: a buffer, a `Place` (how the index varies over the lanes), an optional mask.  Out: the lanes'
values in memory types. Lanes that a mask excludes are never touched. Accesses are aligned to the
element only.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.codegen.llvm import ir
from braze.codegen.llvm.addressing import Place
from braze.codegen.llvm.types import (
    I8,
    I32,
    I64,
    POINTER,
    bits_of,
    constant,
    constants,
    declare,
    element_of,
    lane_numbers,
    lanes_of,
    memory_type,
    numbers,
    poison,
    splat,
    vector,
    zero,
)
from braze.ir.dtypes import DType, bf16
from braze.ir.symint import is_always
from braze.ir.target import Target

Mark = Callable[[ir.Instruction], None]

# Read instead of a buffer where a condition common to all lanes fails: 64 lanes of 8 bytes.
_ZEROS = "braze_zeros"
_ZEROS_BYTES = 512


def has_masked_access(target: Target, dtype: DType) -> bool:
    """True if the target loads and stores consecutive elements under a mask in one instruction."""
    if "avx512bw" in target.features:
        return True
    return "avx2" in target.features and dtype.itemsize >= 4


def has_gather(target: Target, dtype: DType) -> bool:
    """True if gathering in hardware is faster than scalar loads (on AVX2 it is not)."""
    return "avx512f" in target.features and dtype.itemsize >= 4


def _narrows_wrongly(target: Target, dtype: DType) -> bool:
    """True if LLVM may miscompile a masked store of this type.

    LLVM 22 turns a masked store of truncated integers into a narrowing store, and that, where the
    mask is a constant with one lane, into a store of the element before it was narrowed: too wide.
    A bfloat16 is made by truncating an integer.
    """
    is_integer = dtype.kind != "float" or dtype is bf16
    return "avx512f" in target.features and is_integer and dtype.itemsize < 8


def _hidden(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """The same mask, such that LLVM cannot know it for a constant."""
    every = builder.asm(ir.FunctionType(I32, [I32]), "", "=r,0", [constant(I32, 1)])
    known = splat(builder, builder.trunc(every, ir.IntType(1)), lanes_of(mask.type))
    return builder.and_(mask, known)


def _zeros(module: ir.Module) -> ir.GlobalVariable:
    found = module.globals.get(_ZEROS)
    if found is None:
        type = ir.ArrayType(I8, _ZEROS_BYTES)
        found = ir.GlobalVariable(module, type, _ZEROS)
        found.initializer = ir.Constant(type, None)
        found.linkage = "internal"
        found.global_constant = True
        found.align = 64
    return found


class Memory:
    """Emits accesses to one element type.

    Args:
        base: address of the buffer's element 0.
        width: lanes.
        mark: called with every load or store instruction, to attach metadata.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        target: Target,
        dtype: DType,
        base: ir.Value,
        width: int,
        mark: Mark | None = None,
    ) -> None:
        self.builder = builder
        self.target = target
        self.dtype = dtype
        self.base = base
        self.width = width
        self.element = memory_type(dtype)
        self.type = memory_type(dtype, width)
        self._mark = mark or (lambda instruction: None)

    # Addresses ------------------------------------------------------------------------------------

    def address(self, place: Place, more: int = 0) -> ir.Value:
        """The address of the first lane's element, or of one so many elements further."""
        return self._behind(self._at(self.base, place.base), place.shift + more)

    def _at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        """The address of an element (or of each lane's, for a vector of offsets)."""
        if offset is constant(I64, 0):
            return pointer
        return self.builder.gep(pointer, [offset], source_etype=self.element)

    def _behind(self, pointer: ir.Value, count: int) -> ir.Value:
        return self._at(pointer, constant(I64, count))

    def address_or_zeros(self, place: Place, condition: ir.Value | None) -> ir.Value:
        """The address of the first lane's element, or of zeros where an i1 condition fails."""
        address = self.address(place)
        if condition is None:
            return address
        return self.builder.select(condition, address, _zeros(self.builder.module))

    def lane_addresses(self, place: Place, mask: ir.Value | None = None) -> list[ir.Value]:
        """Each lane's address; those of masked-out lanes are replaced by ones that are in bounds.
        """
        if place.offsets is None and mask is None:
            return [self.address(place, lane * place.step) for lane in range(self.width)]
        offsets = self._offsets(place, mask)
        lanes = [
            self.builder.extract_element(offsets, constant(I32, lane)) for lane in range(self.width)
        ]
        return [self._at(self.base, self.builder.sext(lane, I64)) for lane in lanes]

    def _offsets(self, place: Place, mask: ir.Value | None) -> ir.Value:
        """All lanes' offsets as a vector, zero where the mask excludes a lane."""
        offsets = place.offsets
        if offsets is None:
            ramp = numbers(I64, [place.shift + place.step * n for n in range(self.width)])
            offsets = self.builder.add(splat(self.builder, place.base, self.width), ramp)
        if mask is not None:
            offsets = self.builder.select(mask, offsets, zero(offsets.type))
        return offsets

    # Loads ----------------------------------------------------------------------------------------

    def load_scalar(self, address: ir.Value) -> ir.Value:
        return self._load(address, self.element)

    def _load(self, address: ir.Value, type: ir.Type) -> ir.Value:
        loaded = self.builder.load(address, typ=type, align=self.dtype.itemsize)
        self._mark(loaded)
        return loaded

    def load(
        self, place: Place, condition: ir.Value | None = None, mask: ir.Value | None = None
    ) -> ir.Value:
        """The lanes' elements; zero in every lane where the condition fails, or in lanes outside
        the mask.
        """
        if place.is_contiguous:
            if mask is None:
                return self._load(self.address_or_zeros(place, condition), self.type)
            if has_masked_access(self.target, self.dtype):
                address = self.address_or_zeros(place, condition)
                return self._masked_load(address, mask)
        if place.offsets is None and is_always(place.step, 2):
            if mask is None or has_masked_access(self.target, self.dtype):
                return self._load_every_other(place, condition, mask)
        if condition is not None:
            common = splat(self.builder, condition, self.width)
            mask = common if mask is None else self.builder.and_(mask, common)
        if mask is None and place.offsets is None and is_always(place.step, -1):
            return self._load_reversed(place)
        gathered = self._gather(place, mask)
        return gathered if mask is None else self.builder.select(mask, gathered, zero(self.type))

    def _masked_load(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        name = f"llvm.masked.load.{_suffix(self.type)}.p0"
        function = declare(self.builder.module, name, self.type, POINTER, I32, mask.type, self.type)
        arguments = [address, constant(I32, self.dtype.itemsize), mask, zero(self.type)]
        loaded = self.builder.call(function, arguments)
        self._mark(loaded)
        return loaded

    def _load_every_other(
        self, place: Place, condition: ir.Value | None, mask: ir.Value | None
    ) -> ir.Value:
        """Elements 0, 2, 4, ... from two loads that reach no further than the last one."""
        width = self.width
        parts = []
        for first in (0, width - 1):
            address = self.address(place, first)
            if condition is not None:
                address = self.builder.select(condition, address, _zeros(self.builder.module))
            if mask is None:
                parts.append(self._load(address, self.type))
                continue
            # An element between two lanes' is there if the second one's is.
            lanes = [(first + n + 1) // 2 for n in range(width)]
            wide = self.builder.shuffle_vector(mask, poison(mask.type), constants(I32, lanes))
            parts.append(self._masked_load(address, wide))
        picked = [p if p < width else width + p - (width - 1) for p in range(0, 2 * width, 2)]
        return self.builder.shuffle_vector(parts[0], parts[1], constants(I32, picked))

    def _load_reversed(self, place: Place) -> ir.Value:
        return self._reversed(self._load(self.address(place, 1 - self.width), self.type))

    def _reversed(self, value: ir.Value) -> ir.Value:
        order = constants(I32, list(reversed(range(self.width))))
        return self.builder.shuffle_vector(value, poison(value.type), order)

    def _gather(self, place: Place, mask: ir.Value | None) -> ir.Value:
        """Every lane's element from its own address; masked-out lanes read element 0."""
        if has_gather(self.target, self.dtype):
            if place.offsets is None and mask is None:
                ramp = lane_numbers(I64, self.width, place.step)
                addresses = self._at(self.address(place), ramp)
            else:
                addresses = self._at(self.base, self._offsets(place, mask))
            every = constant(vector(ir.IntType(1), self.width), 1)
            pointers = ir.VectorType(POINTER, self.width)
            name = f"llvm.masked.gather.{_suffix(self.type)}.v{self.width}p0"
            function = declare(
                self.builder.module, name, self.type, pointers, I32, every.type, self.type
            )
            align = constant(I32, self.dtype.itemsize)
            loaded = self.builder.call(function, [addresses, align, every, zero(self.type)])
            self._mark(loaded)
            return loaded
        result: ir.Value = poison(self.type)
        for lane, address in enumerate(self.lane_addresses(place, mask)):
            item = self.load_scalar(address)
            result = self.builder.insert_element(result, item, constant(I32, lane))
        return result

    # Stores ---------------------------------------------------------------------------------------

    def store_scalar(self, value: ir.Value, address: ir.Value) -> None:
        self._mark(self.builder.store(value, address, align=self.dtype.itemsize))

    def stream(self, value: ir.Value, address: ir.Value) -> None:
        """Store all lanes past the caches; their size must divide the address."""
        stored = self.builder.store(value, address, align=self.width * self.dtype.itemsize)
        once = self.builder.module.add_metadata([constant(I32, 1)])
        stored.set_metadata("nontemporal", once)
        self._mark(stored)

    def store(self, value: ir.Value, place: Place, mask: ir.Value | None = None) -> None:
        """Store every lane that the mask includes. Lanes must not collide."""
        if mask is None and place.offsets is None and is_always(place.step, -1):
            self.store_scalar(self._reversed(value), self.address(place, 1 - self.width))
        elif not place.is_contiguous:
            self.each_lane(value, place, mask, self.store_scalar)
        elif mask is None:
            self.store_scalar(value, self.address(place))
        else:
            if _narrows_wrongly(self.target, self.dtype):
                mask = _hidden(self.builder, mask)
            name = f"llvm.masked.store.{_suffix(self.type)}.p0"
            void = ir.VoidType()
            function = declare(self.builder.module, name, void, self.type, POINTER, I32, mask.type)
            align = constant(I32, self.dtype.itemsize)
            arguments = [value, self.address(place), align, mask]
            self._mark(self.builder.call(function, arguments))

    def each_lane(
        self,
        value: ir.Value,
        place: Place,
        mask: ir.Value | None,
        action: Callable[[ir.Value, ir.Value], None],
    ) -> None:
        """Run action(item, address) for each lane that the mask includes, in order."""
        for lane, address in enumerate(self.lane_addresses(place, mask)):
            number = constant(I32, lane)
            item = self.builder.extract_element(value, number)
            if mask is None:
                action(item, address)
            else:
                with self.builder.if_then(self.builder.extract_element(mask, number)):
                    action(item, address)


def _suffix(type: ir.Type) -> str:
    kind = "i" if isinstance(element_of(type), ir.IntType) else "f"
    return f"v{lanes_of(type)}{kind}{bits_of(type)}"
