"""Split a graph with values on several devices into programs for one device each.

In: a captured graph.  Out: a `Split`: segments, which are graphs that know no devices, and copies
between memory on one device and another, in the order in which they run.

    graph @g(%x: f32[4], %w: f32[4]@cuda:0 param) -> (f32[4]) {
      %0: f32[4]@cuda:0 = to_device(%x; device="cuda:0")
      %1: f32[4]@cuda:0 = mul(%0, %w)
      %2: f32[4] = to_device(%1; device="cpu")
      %3: f32[4] = neg(%2)
      return %3
    }

becomes: copy %x to cuda:0; `mul` there; copy its result to cpu; `neg` here.

An operation joins the last segment of its device, unless that runs before something that it needs.
What depends on no data but on numbers alone (constants, ramps, random bits) is not copied: it is
computed in each segment that needs it, so that `zeros(3).to("cuda")` is made on the GPU.

Memory is named by slots: the inputs first, then the outputs, then what is needed in between. An
output that takes an input's memory is written there at once if nothing later reads the input and no
later segment can fail; else it is made elsewhere, and copied at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from braze.ir.devices import HOST, common_device, on_device
from braze.ir.graph import Graph, Node, Role, Value, types_of
from braze.ir.types import TensorType

# How many operations are made anew in each segment rather than copied to it.
MOST_REPEATED = 16

# A value, as it is on some device.
Place = tuple[Value, str]


@dataclass(frozen=True, slots=True)
class Segment:
    """What one device computes in one go.

    Attributes:
        device: where.
        graph: without devices, to be compiled for that device.
        inputs, outputs: the slots that the graph's inputs and outputs are.
        nodes: for each of its nodes, the position in the graph that was split.
    """

    device: str
    graph: Graph
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy all bytes of one slot to another."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Split:
    """The programs of a graph.

    Attributes:
        types: of every slot, with devices.
        steps: in order.
        last_uses: for each step, the slots in between that nothing needs after it.
    """

    types: tuple[TensorType, ...]
    steps: tuple[Segment | Copy, ...]
    last_uses: tuple[tuple[int, ...], ...]


def is_split(graph: Graph) -> bool:
    """Whether a graph is more than a program for the CPU."""
    return any(node.op.is_transfer for node in graph.nodes) or any(
        value.type.device != HOST for value in graph.values()
    )


def split_devices(graph: Graph) -> Split:
    """The segments and copies that a graph is."""
    return _Splitter(graph).split()


def without_devices(graph: Graph) -> Graph:
    """The graph as a program for one device, whichever: all values are there, nothing is copied."""
    own = {value: Value(on_device(value.type, HOST), name=value.name) for value in graph.inputs}
    made = Graph(graph.name, list(own.values()), list(graph.roles))
    for node in graph.nodes:
        operands = [own[operand] for operand in node.operands]
        if node.op.is_transfer:
            own[node.results[0]] = operands[0]
            continue
        copy = _on_host(node, operands)
        made.nodes.append(copy)
        own.update(zip(node.results, copy.results, strict=True))
    made.outputs = [own[value] for value in graph.outputs]
    made.aliases = dict(graph.aliases)
    return made


def _on_host(node: Node, operands: list[Value]) -> Node:
    """The node on other operands, its results without devices."""
    types = [on_device(t, HOST) for t in types_of(node.results)]
    copy = Node(node.op, operands, node.attributes, types, node.location, node.body)
    for old, new in zip(node.results, copy.results, strict=True):
        new.name = old.name
    return copy


@dataclass(eq=False)
class _Open:
    """A segment that still grows.

    Attributes:
        copies: what must be copied before it runs.
        given: the places whose memory its inputs are.
        values: of the graph that is split -> its own.
        made: outputs that could be computed anywhere, and are here.
    """

    device: str
    position: int
    graph: Graph
    copies: list[tuple[Value, str]] = field(default_factory=list)
    given: list[Place] = field(default_factory=list)
    values: dict[Value, Value] = field(default_factory=dict)
    nodes: list[int] = field(default_factory=list)
    made: list[Value] = field(default_factory=list)
    may_fail: bool = False


class _Splitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.roles: dict[Value, Role] = dict(zip(graph.inputs, graph.roles, strict=True))
        self.numbers = {node: number for number, node in enumerate(graph.nodes)}
        self.segments: list[_Open] = []
        self.last: dict[str, _Open] = {}
        self.made_in: dict[Value, _Open] = {}  # where a node's results are computed
        self.made_anywhere: dict[Place, _Open] = {}  # outputs that could be computed anywhere
        self.copied: set[Place] = set()
        self._repeated: dict[Value, list[Node] | None] = {}

    def split(self) -> Split:
        for node in self.graph.nodes:
            if not node.op.is_transfer and not self._is_left_out(node):
                self._place(node)
        for output in self.graph.outputs:
            source, device = self.source(output), output.type.device
            if self._is_anywhere(source) and (source, device) not in self.made_anywhere:
                segment = self.made_anywhere[source, device] = self._segment(device, [])
                segment.made.append(source)
                self._value(segment, source)
        return _assemble(self)

    # Where values come from -----------------------------------------------------------------------

    def source(self, value: Value) -> Value:
        """What a value is a copy of, through all transfers."""
        while value.node is not None and value.node.op.is_transfer:
            value = value.node.operands[0]
        return value

    def _cone(self, value: Value) -> list[Node] | None:
        """The operations that make a value from numbers alone, if there are but few."""
        if value not in self._repeated:
            self._repeated[value] = self._find_cone(value)
        return self._repeated[value]

    def _find_cone(self, value: Value) -> list[Node] | None:
        node = value.node
        if node is None:
            return [] if self.roles[value] == "scalar" else None
        if node.op.is_transfer:
            return self._cone(node.operands[0])
        if node.op.may_fail or node.op.is_alone:
            return None
        found: dict[Node, None] = {}
        for operand in node.operands:
            cone = self._cone(operand)
            if cone is None:
                return None
            found.update(dict.fromkeys(cone))
        found[node] = None
        return list(found) if len(found) <= MOST_REPEATED else None

    def _is_anywhere(self, value: Value) -> bool:
        """Whether a value is made wherever it is needed."""
        return self._cone(value) is not None

    def _is_left_out(self, node: Node) -> bool:
        """Made where it is needed only, which may be nowhere."""
        return bool(node.results) and all(self._is_anywhere(value) for value in node.results)

    # Placing --------------------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        types = types_of(node.results) or (None,)
        device = common_device(types_of(node.operands)) if types[0] is None else types[0].device
        sources = [self.source(operand) for operand in node.operands]
        segment = self._segment(device, sources)
        operands = [self._value(segment, source) for source in sources]
        segment.may_fail = segment.may_fail or node.op.may_fail
        self._append(segment, node, operands)
        for result in node.results:
            self.made_in[result] = segment

    def _segment(self, device: str, sources: list[Value]) -> _Open:
        """The last segment of a device, or a new one if that runs too early."""
        segment = self.last.get(device)
        before = -1  # position of the last segment of another device that it depends on
        for source in sources:
            maker = self.made_in.get(source)
            if maker is not None and maker is not segment:
                before = max(before, maker.position)
        if segment is None or segment.position <= before:
            position = len(self.segments)
            graph = Graph(f"{self.graph.name}_{position}" if position else self.graph.name)
            segment = self.last[device] = _Open(device, position, graph)
            self.segments.append(segment)
        return segment

    def _value(self, segment: _Open, source: Value) -> Value:
        """A value of the split graph as one of a segment's."""
        own = segment.values.get(source)
        if own is not None:
            return own
        cone = self._cone(source)
        if cone is not None and source.node is not None:
            for node in cone:
                if node.results[0] not in segment.values:
                    operands = [self._value(segment, self.source(v)) for v in node.operands]
                    self._append(segment, node, operands)
            return segment.values[source]
        if source.type.device != segment.device and self.roles.get(source) != "scalar":
            key = (source, segment.device)
            if key not in self.copied:
                self.copied.add(key)
                segment.copies.append(key)
        own = Value(on_device(source.type, HOST), name=source.name)
        segment.graph.inputs.append(own)
        segment.graph.roles.append(self.roles.get(source, "data"))
        segment.given.append((source, segment.device))
        segment.values[source] = own
        return own

    def _append(self, segment: _Open, node: Node, operands: list[Value]) -> None:
        copy = _on_host(node, operands)
        segment.graph.nodes.append(copy)
        segment.nodes.append(self.numbers[node])
        segment.values.update(zip(node.results, copy.results, strict=True))


# Memory -------------------------------------------------------------------------------------------


class _Slots:
    """Which slot a value is in, on a device."""

    def __init__(self, graph: Graph) -> None:
        self.types = [value.type for value in (*graph.inputs, *graph.outputs)]
        self.fixed = len(self.types)
        self.of: dict[Place, int] = {
            (value, value.type.device): slot
            for slot, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True))
            if role != "scalar"
        }
        self.scalars = {v: slot for slot, v in enumerate(graph.inputs) if (v, HOST) not in self.of}

    def read(self, value: Value, device: str) -> int:
        """Where a segment's input is: a number is given to segments of all devices."""
        slot = self.scalars.get(value) if value.type.device == HOST else None
        return self.at(value, device) if slot is None else slot

    def at(self, value: Value, device: str) -> int:
        slot = self.of.get((value, device))
        if slot is None:
            slot = self.of[value, device] = self.new(on_device(value.type, device))
        return slot

    def new(self, type: TensorType) -> int:
        self.types.append(type)
        return len(self.types) - 1


def _assemble(splitter: _Splitter) -> Split:
    """Give every value that leaves its segment a slot, and put the steps in order."""
    graph, segments = splitter.graph, splitter.segments
    slots = _Slots(graph)
    last_copies = _place_outputs(splitter, slots)
    for segment in segments:
        for source, device in segment.given:
            slots.read(source, device)
        for source, _ in segment.copies:
            slots.at(source, source.type.device)
    steps: list[Segment | Copy] = []
    for segment in segments:
        steps += [
            Copy(slots.at(source, source.type.device), slots.at(source, device))
            for source, device in segment.copies
        ]
        steps.append(_close(segment, splitter, slots))
    steps += last_copies
    return Split(tuple(slots.types), tuple(steps), _last_uses(steps, slots.fixed))


def _place_outputs(splitter: _Splitter, slots: _Slots) -> list[Copy]:
    """Have segments write to the outputs where they can; the copies for the rest."""
    graph = splitter.graph
    places = []
    for output in graph.outputs:
        source, device = splitter.source(output), output.type.device
        segment = splitter.made_in.get(source) or splitter.made_anywhere.get((source, device))
        places.append((source, source.type.device if segment is None else segment.device, segment))
    readers: dict[Value, int] = {}  # the last segment that reads a value, or has it copied
    for opened in splitter.segments:
        readers.update({source: opened.position for source, _ in opened.given})
    # Those that nobody makes are copied when all segments have run.
    end = len(splitter.segments)
    readers.update({source: end for source, _, segment in places if segment is None})
    failing = max((s.position for s in splitter.segments if s.may_fail), default=-1)
    plain, overwriting, saving = [], [], []
    for index, (source, device, segment) in enumerate(places):
        slot = len(graph.inputs) + index
        alias = graph.aliases.get(index)
        if (
            segment is not None
            and device == graph.outputs[index].type.device
            and (source, device) not in slots.of
            and (
                alias is None
                or readers.get(graph.inputs[alias], -1) <= segment.position >= failing
            )
        ):
            slots.of[source, device] = slot
        elif alias is None:
            plain.append((source, device, slot))
        else:
            overwriting.append((source, device, slot))
    copies = [Copy(slots.at(source, device), slot) for source, device, slot in plain]
    for source, device, slot in overwriting:
        held = slots.at(source, device)
        if source.node is None:  # an input, which may be overwritten itself
            saving.append(Copy(held, slots.new(on_device(source.type, device))))
            held = saving[-1].target
        copies.append(Copy(held, slot))
    return saving + copies


def _close(segment: _Open, splitter: _Splitter, slots: _Slots) -> Segment:
    """A segment with its outputs: what has a slot of what it makes."""
    graph, own = splitter.graph, segment.graph
    inputs = [slots.read(source, device) for source, device in segment.given]
    outputs: list[int] = []
    for value, inside in segment.values.items():
        is_made = value in segment.made or splitter.made_in.get(value) is segment
        slot = slots.of.get((value, segment.device)) if is_made else None
        if slot is None:
            continue
        alias = graph.aliases.get(slot - len(graph.inputs)) if slot < slots.fixed else None
        if alias in inputs:
            own.aliases[len(outputs)] = inputs.index(alias)
        own.outputs.append(inside)
        outputs.append(slot)
    return Segment(segment.device, own, tuple(inputs), tuple(outputs), tuple(segment.nodes))


def _last_uses(steps: list[Segment | Copy], fixed: int) -> tuple[tuple[int, ...], ...]:
    seen: set[int] = set()
    found: list[tuple[int, ...]] = []
    for step in reversed(steps):
        if isinstance(step, Copy):
            used = {step.source, step.target}
        else:
            used = {*step.inputs, *step.outputs}
        found.append(tuple(sorted(slot for slot in used - seen if slot >= fixed)))
        seen |= used
    found.reverse()
    return tuple(found)
