"""Meshes of ranks, and models whose layers they share out by a plan."""

import numpy as np
import pytest
from ranks import run_ranks
from ranks_on_gpus import run_ranks_on_gpus

import braze
from braze import nn
from braze.distributed import checkpoint

pytestmark = pytest.mark.xdist_group("ranks")

HELPERS = """
import warnings
from braze import nn
from braze.distributed import DeviceMesh, checkpoint, init_device_mesh
from braze.distributed.tensor import Replicate, Shard
from braze.distributed.tensor.parallel import *

def near(a, b, what=""):
    a, b = (v.detach().cpu().numpy() if isinstance(v, braze.Tensor) else v for v in (a, b))
    assert np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-4, atol=1e-5), (what, a, b)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).tanh())

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 8, padding_idx=1)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 4)

    def forward(self, words):
        x = self.words(words)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

def model(seed=3):
    braze.manual_seed(seed)
    return Model()

def shard(whole, name, layer, group):
    dim = getattr(layer, "shared_along", {}).get(name)
    return whole if dim is None else whole.chunk(group.size(), dim)[group.rank()]

def check(made, plan, mesh, words):
    '''Outputs, and gradients of all parameters, as those of the model that is not shared out.'''
    one, group = model(), mesh.get_group()
    many = parallelize_module(made, mesh, plan)
    outputs = [net(words) for net in (one, many)]
    near(*outputs)
    for output in outputs:
        weights = braze.arange(output.numel(), device=words.device).reshape(output.shape)
        (output * output * weights).sum().backward()
    for name, parameter in one.named_parameters():
        path, _, own = name.rpartition(".")
        layer = many.get_submodule(path)
        near(getattr(layer, own), shard(parameter.detach(), own, layer, group), name)
        near(getattr(layer, own).grad, shard(parameter.grad, own, layer, group), name)
    return many
"""


def test_a_mesh(tmp_path):
    outcome = run_ranks(
        HELPERS
        + """
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
row, column = divmod(rank, 2)
assert (mesh.ndim, mesh.shape, mesh.size(), mesh.size(1)) == (2, (2, 2), 4, 2)
assert mesh.mesh.tolist() == [[0, 1], [2, 3]] and mesh.mesh.dtype is braze.int32
assert mesh.device_type == "cpu" and mesh.mesh_dim_names == ("dp", "tp")
assert mesh.get_coordinate() == (row, column) and mesh.get_rank() == rank
assert mesh.get_local_rank("dp") == mesh.get_local_rank(0) == row
assert mesh.get_local_rank("tp") == mesh.get_local_rank(-1) == column
assert mesh.get_group("dp").ranks == (column, column + 2)
tp = mesh.get_group(1)
assert tp.ranks == (2 * row, 2 * row + 1) and tp.group_desc == "mesh_tp"
assert mesh.get_all_groups() == [mesh.get_group("dp"), mesh.get_group("tp")]
own = mesh["tp"]
assert own.get_group() is mesh.get_group("tp") and own.mesh.tolist() == [2 * row, 2 * row + 1]
assert own.get_local_rank() == column and own.shape == (2,) and mesh["dp", "tp"] is mesh
turned = mesh["tp", "dp"]
assert turned.mesh.tolist() == [[0, 2], [1, 3]] and turned.get_group("dp") is mesh.get_group("dp")
x = braze.tensor([float(rank)])
dist.all_reduce(x, group=mesh.get_group("dp"))
assert x.item() == 2 * column + 2
assert mesh == DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("dp", "tp")) != mesh["tp"]
assert len({mesh, DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("dp", "tp"))}) == 1
assert repr(mesh) == "DeviceMesh((dp=2, tp=2), 'cpu', [[0, 1], [2, 3]])"
assert init_device_mesh("cpu", (4,)).get_group() is dist.group.WORLD

# A rank's number is its place, also where ranks are in no order, and some may be left out.
part = DeviceMesh("cpu", braze.tensor([3, 0, 2]))
assert part.get_local_rank() == [1, -1, 2, 0][rank]
assert part.get_coordinate() == [(1,), None, (2,), (0,)][rank]
if rank == 1:
    assert part.get_group() is dist.GroupMember.NON_GROUP_MEMBER
else:
    out = braze.zeros(3)
    dist.all_gather_into_tensor(out, braze.tensor([float(rank)]), group=part.get_group())
    assert out.tolist() == [3, 0, 2]
three = init_device_mesh("cpu", (2, 1, 2), mesh_dim_names=("a", "b", "c"))
assert three["a", "c"].mesh.tolist() == [[0, 1], [2, 3]] and three["b"].size() == 1

again = DeviceMesh.from_group(mesh.get_group("tp"), "cpu", mesh_dim_names=("x",))
assert again.get_group("x") is mesh.get_group("tp") and again.get_local_rank() == column
again = DeviceMesh.from_group(mesh.get_all_groups(), "cpu", mesh.mesh, mesh_dim_names=("dp", "tp"))
assert again == mesh and again["dp"].get_group() is mesh.get_group("dp")
raises(ValueError, "Invalid mesh", lambda: DeviceMesh.from_group(own.get_group(), "cpu", [1, 3]))
raises(ValueError, "at least one", lambda: DeviceMesh.from_group([], "cpu"))
raises(ValueError, "Must pass mesh if", lambda: DeviceMesh.from_group([own.get_group()], "cpu"))
raises(ValueError, "dimension 0 of the mesh has ranks", lambda: DeviceMesh.from_group(
    mesh.get_all_groups()[::-1], "cpu", mesh.mesh, mesh_dim_names=("dp", "tp")))

raises(RuntimeError, "needs to be specified", mesh.get_group)
raises(RuntimeError, "needs to be specified", mesh.get_local_rank)
raises(KeyError, "'ep' does not exist", lambda: mesh.get_group("ep"))
raises(IndexError, "out of range", lambda: mesh.get_group(2))
raises(KeyError, "Invalid mesh_dim_names", lambda: mesh["ep"])
raises(RuntimeError, "without mesh_dim_names", lambda: part["x"])
raises(RuntimeError, "should not be bigger", lambda: init_device_mesh("cpu", (8,)))
raises(RuntimeError, "must be unique", lambda: init_device_mesh("cpu", (2, 2), mesh_dim_names="aa"))
raises(RuntimeError, "same length", lambda: init_device_mesh("cpu", (4,), mesh_dim_names="ab"))
raises(RuntimeError, "with index", lambda: init_device_mesh("cuda:0", (4,)))
raises(ValueError, "not registered", lambda: init_device_mesh("tpu", (4,)))
raises(ValueError, "different ranks", lambda: DeviceMesh("cpu", [0, 0]))
raises(ValueError, "grid of ranks", lambda: DeviceMesh("cpu", 0.5))
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome


def test_plans(tmp_path):
    outcome = run_ranks(
        HELPERS
        + f"""
mesh = init_device_mesh("cpu", (4,))
words = braze.tensor([[0, 3, 7, 1], [6, 3, 11, 4]])
pair = {{"blocks.*.up": ColwiseParallel(), "blocks.*.down": RowwiseParallel()}}
plans = (
    pair,
    {{**pair, "words": RowwiseParallel(input_layouts=Replicate()),
     "head": ColwiseParallel(output_layouts=Replicate())}},
    {{"words": ColwiseParallel(output_layouts=Replicate()),
     "head": RowwiseParallel(input_layouts=Replicate())}},
    # The sequence is shared out between the blocks' pairs of layers.
    {{**pair, "words": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
     "blocks.*.norm": SequenceParallel(),
     "blocks.*.up": ColwiseParallel(input_layouts=Shard(1)),
     "blocks.*.down": RowwiseParallel(output_layouts=Shard(1)),
     "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())}},
    {{**pair, "blocks.0": PrepareModuleInput(input_layouts=(Replicate(),),
                                            desired_input_layouts=(Shard(1),)),
     "blocks.?.norm": SequenceParallel(),
     "blocks.*.up": ColwiseParallel(input_layouts=Shard(1)),
     "blocks.*.down": RowwiseParallel(output_layouts=Shard(-2)),
     "blocks.1": PrepareModuleOutput(output_layouts=Shard(1),
                                     desired_output_layouts=Replicate())}},
)
for number, plan in enumerate(plans):
    # Where the plan names all layers: whatever others have, rank 0's parameters count.
    many = check(model(rank + 3 if number == 3 else 3), plan, mesh, words)
assert type(many.blocks[1].up) is ColumnParallelLinear and many.head.weight.shape == (4, 8)
assert "ColumnParallelEmbedding(12, 8, padding_idx=1" in repr(check(model(), plans[2], mesh, words))
with mesh:
    alike = parallelize_module(model(), None, plans[1], src_data_rank=None)
near(alike(words), model()(words))
checkpoint.save({{"net": alike}}, checkpoint_id="{tmp_path}/c")
other = parallelize_module(model(9), mesh, pair)
checkpoint.load({{"net": other}}, checkpoint_id="{tmp_path}/c")
near(other(words), model()(words))

# Inputs by name, layers by themselves, and what stays as it is.
layer = nn.Linear(8, 4).eval()
layer.bias.requires_grad_(False)
one = parallelize_module(layer, mesh, RowwiseParallel(input_layouts=Shard(0)))
x = braze.arange(32.0).reshape(4, 8)
near(one(input=x[rank : rank + 1]), layer(x))
assert not one.training and not one.bias.requires_grad and one.weight.requires_grad
assert isinstance(parallelize_module(layer, mesh, {{"": ColwiseParallel()}}), ColumnParallelLinear)

class Named(nn.Module):
    def forward(self, x, *, y):
        return x, y
named = parallelize_module(Named(), mesh, PrepareModuleInput(
    input_layouts=(None,), desired_input_layouts=(None,),
    input_kwarg_layouts={{"y": Shard(0)}}, desired_input_kwarg_layouts={{"y": Replicate()}}))
given, made = named(x, y=x[rank : rank + 1])
assert given is x
near(made, x)

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    net = model()
    assert parallelize_module(net, mesh) is net
    parallelize_module(net, mesh, {{"blocks.*.side": ColwiseParallel()}})
assert len(seen) == 3 and "auto-parallel" in str(seen[0].message)
assert "key 'blocks.*.side' could not be resolved" in str(seen[1].message)
P = parallelize_module
for error, text, call in (
    (NotImplementedError, "only support nn.Linear", lambda: P(Named(), mesh, ColwiseParallel())),
    (NotImplementedError, "only support nn.Linear", lambda: P(Named(), mesh, RowwiseParallel())),
    (NotImplementedError, "DTensors", lambda: ColwiseParallel(use_local_output=False)),
    (TypeError, "expected Replicate() or Shard(dim)", lambda: RowwiseParallel(input_layouts=1)),
    (TypeError, "Expect Union", lambda: P(net, mesh, 3)),
    (TypeError, "expected a ParallelStyle", lambda: P(net, mesh, {{"head": 3}})),
    (ValueError, "0 of the weight, 6", lambda: P(nn.Linear(2, 6), mesh, ColwiseParallel())),
    (ValueError, "max_norm", lambda: P(nn.Embedding(4, 4, max_norm=1.0), mesh, ColwiseParallel())),
    (ValueError, "should have same length", lambda: PrepareModuleInput(
        input_layouts=Shard(0), desired_input_layouts=())),
    (ValueError, "same names", lambda: PrepareModuleInput(input_kwarg_layouts={{"x": Shard(0)}})),
    (ValueError, "inputs and input_layouts", lambda: P(nn.ReLU(), mesh, PrepareModuleInput(
        input_layouts=(Shard(0), None), desired_input_layouts=(Replicate(), None)))(x)),
    (ValueError, "outputs and output_layouts", lambda: P(nn.ReLU(), mesh, PrepareModuleOutput(
        output_layouts=(Shard(0), None), desired_output_layouts=(Replicate(), None)))(x)),
    (RuntimeError, "No device mesh is currently active", lambda: P(net, None, pair)),
):
    raises(error, text, call)

# Two ranks share a model out, and two such pairs train with a part of the batch each.
grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
raises(RuntimeError, "needs to be specified", lambda: P(model(), grid, pair))
one, many = model(), parallelize_module(model(), grid["tp"], pair)
many = nn.parallel.DistributedDataParallel(many, process_group=grid.get_group("dp"))
for net, batch in ((one, words), (many, words[grid.get_local_rank("dp")][None])):
    opt = braze.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        opt.zero_grad()
        net(batch).square().mean().backward()
        opt.step()
near(many(words), one(words))
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome
    whole = nn.Module()
    whole.words = nn.Embedding(12, 8, padding_idx=1)
    whole.head = nn.Linear(8, 4)
    state = {"net": {f"{n}.weight": getattr(whole, n).weight.detach() for n in ("words", "head")}}
    checkpoint.load(state, checkpoint_id=tmp_path / "c")
    braze.manual_seed(3)
    wanted = nn.Embedding(12, 8, padding_idx=1)
    # One was made by compiled code, perhaps.
    assert np.allclose(whole.words.weight.detach(), wanted.weight.detach(), atol=1e-6)


def test_plans_on_gpus(tmp_path):
    outcome = run_ranks_on_gpus(
        HELPERS
        + """
mesh = init_device_mesh("cuda", (2,), mesh_dim_names=("tp",))
assert mesh.get_group() is dist.group.WORLD
words = braze.tensor([[0, 3, 7, 1], [6, 3, 11, 4]], device=GPU)
make, model = model, lambda seed=3: make(seed).to(GPU)
check(model(rank + 3), {
    "words": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
    "blocks.*.norm": SequenceParallel(),
    "blocks.*.up": ColwiseParallel(input_layouts=Shard(1)),
    "blocks.*.down": RowwiseParallel(output_layouts=Shard(1)),
    "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())}, mesh, words)
on_cpus = init_device_mesh("cpu", (2,))
x = braze.ones(1)
dist.all_reduce(x, group=on_cpus.get_group())
assert x.item() == 2
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(2)), outcome
