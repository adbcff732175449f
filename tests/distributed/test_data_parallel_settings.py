"""Arguments of `DistributedDataParallel` that change what is reduced, and how."""

import pytest
from ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

PROGRAM = """
import warnings
import braze.nn.functional as F
from braze import nn
DDP = nn.parallel.DistributedDataParallel

def gathered(value):
    everybody = [None] * size
    dist.all_gather_object(everybody, value)
    return everybody

def same(value):
    return len(set(map(str, gathered(value)))) == 1
"""


def test_sparse_gradients(tmp_path):
    """Embeddings of several ranks: the mean of their dense gradients, and the same steps."""
    outcome = run_ranks(
        PROGRAM
        + """
class Model(nn.Module):
    def __init__(self, sparse):
        super().__init__()
        braze.manual_seed(4)
        self.table = nn.Embedding(9, 3, sparse=sparse)
        self.bags = nn.EmbeddingBag(7, 3, mode="sum", sparse=sparse)
        self.out = nn.Linear(3, 2)

    def forward(self, words):
        return self.out(self.table(words).mean(0) + self.bags(words[None] % 7)[0]).square().sum()

# Of as many words everywhere, of different numbers, and of none at all on some ranks.
def words(step, rank):
    count = (4, rank + 1, 2 * (rank % 2), 3)[step]
    return (braze.arange(count) * (rank + 3) + step) % 9

nets = []
for sparse in (True, False):
    net = DDP(Model(sparse))
    opt = braze.optim.SGD(net.parameters(), lr=0.1)
    for step in range(4):
        opt.zero_grad()
        w = words(step, rank)
        with net.no_sync() if step == 1 else warnings.catch_warnings():
            net(w if len(w) else w.new_zeros(1)).backward()
        if step == 1:  # two passes are accumulated
            net(words(0, rank)).backward()
        assert net.module.table.weight.grad.is_sparse == sparse
        opt.step()
    nets.append(net)
for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
    assert same(a.tolist())
    assert np.allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-6)

# Rows that nobody has named are not in it, and a rank may have no gradient at all.
table = nn.Embedding(9, 2, sparse=True)
net = DDP(nn.ModuleDict({"a": table, "b": nn.Embedding(4, 2, sparse=True)}),
          find_unused_parameters=True)
net.module.forward = lambda use: use(net.module)
net(lambda m: (m.a if rank else m.b)(braze.tensor([rank, rank])).sum()).backward()
grad = table.weight.grad
assert grad._nnz() == 6 and not grad.is_coalesced()
assert grad._indices().tolist() == [[1, 1, 2, 2, 3, 3]]
dense = grad.to_dense().numpy()
assert (dense == np.repeat([[0, .5, .5, .5, 0, 0, 0, 0, 0]], 2, 0).T).all(), dense
assert net.module.b.weight.grad.to_dense().tolist() == [[0.5, 0.5]] + [[0.0, 0.0]] * 3

# Adam for sparse gradients moves only rows that are named.
net = DDP(nn.Embedding(9, 2, sparse=True))
before = net.module.weight.detach().clone()
opt = braze.optim.SparseAdam(net.parameters(), lr=0.1)
net(braze.tensor([rank])).sum().backward()
opt.step()
moved = (net.module.weight != before).any(1).tolist()
assert moved == [True] * 4 + [False] * 5 and same(net.module.weight.tolist())

net = DDP(nn.Embedding(9, 2, sparse=True))
net.register_comm_hook(None, lambda state, bucket: None)
raises(RuntimeError, "hooks are not given sparse gradients, but weight has one",
      lambda: net(braze.tensor([1])).sum().backward())
net = DDP(nn.Embedding(9, 2, sparse=True))
net.module.sparse = False
raises(RuntimeError, "Expected variable to have sparse gradient",
      lambda: net(braze.tensor([1])).sum().backward())
net = DDP(nn.Embedding(9, 2))
net.module.sparse = True
raises(RuntimeError, "in no Embedding or EmbeddingBag with sparse=True",
      lambda: net(braze.tensor([1])).sum().backward())
net = DDP(nn.Embedding(9, 2, sparse=True))
opt = braze.optim.SGD(net.parameters(), lr=1.0)
net.module.weight.data.zero_()
with net.join():
    for _ in range(rank):
        opt.zero_grad()
        net(braze.tensor([rank])).sum().backward()
        opt.step()
assert net.module.weight[:, 0].tolist() == [0, -0.25, -0.5, -0.75, 0, 0, 0, 0, 0]
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_which_parameters_and_buffers(tmp_path):
    outcome = run_ranks(
        PROGRAM
        + """
warnings.simplefilter("ignore", FutureWarning)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.register_buffer("seen", braze.full((1,), float(rank)))

    def forward(self, x):
        self.seen += 1
        return self.second(self.first(x)).sum()

x = braze.tensor([[1.0, 2.0]]) * (rank + 1)
def reference(net):
    return (net.module.second.weight @ braze.diag(braze.ones(2))).detach()

# One dimension of a mesh.
mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
net = DDP(Two(), device_mesh=mesh["dp"])
assert net.process_group.ranks == mesh.get_group("dp").ranks
net(x).backward()
total = net.module.first.weight.grad[0].tolist()
assert len(set(map(str, gathered(total)))) == 2
raises(RuntimeError, "Cannot specify both", lambda: DDP(
    Two(), process_group=dist.group.WORLD, device_mesh=mesh["dp"]))
raises(RuntimeError, "Only 1D device mesh is supported", lambda: DDP(Two(), device_mesh=mesh))

# Delayed parameters: reduced once the first layer has its gradient, in every pass.
for which in ("first", "all"):
    module, plain = Two(), Two()
    plain.load_state_dict(module.state_dict())
    delayed = [("second.weight", module.second.weight)]
    if which == "all":
        delayed.append(("first.weight", module.first.weight))
    net = DDP(module, delay_all_reduce_named_params=delayed,
              param_to_hook_all_reduce=module.first.weight)
    plain = DDP(plain)
    assert same(module.second.weight.tolist())
    assert (net._reducer is None) == (which == "all")
    for _ in range(2):
        with net.no_sync():
            net(x).backward()
        plain_net = plain.module
        with plain.no_sync():
            plain(x).backward()
        net(x).backward()
        plain(x).backward()
        for a, b in zip(module.parameters(), plain_net.parameters(), strict=True):
            assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-5)
            assert same(a.grad.tolist())
            a.grad = b.grad = None
    raises(RuntimeError, "delay_all_reduce_named_params delays", lambda: net.join())
raises(RuntimeError, "all parameters are delayed", lambda: net.register_comm_hook(None, print))
raises(ValueError, "need to be set at the same time",
      lambda: DDP(Two(), param_to_hook_all_reduce=module.first.weight))

# What is to be left alone.
module = Two()
with braze.no_grad():
    module.first.weight.fill_(float(rank))
DDP._set_params_and_buffers_to_ignore_for_model(module, ["first.weight", "seen"])
net = DDP(module)
net(x).backward()
assert gathered(module.first.weight[0, 0].item()) == [0, 1, 2, 3]
assert gathered(module.seen.item()) == [1, 2, 3, 4] and not net.will_sync_module_buffers()
assert same(module.second.weight.grad.tolist()) and not same(module.first.weight.grad.tolist())

# Unused ones are the same everywhere: nobody is asked.
class Choice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(braze.ones(1)), nn.Parameter(braze.ones(1))

    def forward(self, x, name="a"):
        return (getattr(self, name) * x).sum()

net = DDP(Choice(), find_unused_parameters=True, skip_all_reduce_unused_params=True)
assert net._reducer._aside is None
for name, other in ("ab", "ba"):
    net.zero_grad()
    net(braze.tensor([rank + 1.0]), name).backward()
    assert getattr(net.module, name).grad.item() == 2.5
    assert getattr(net.module, other).grad is None
opt = braze.optim.SGD(net.parameters(), lr=1.0)
with net.join():
    for _ in range(rank):
        opt.zero_grad()
        net(braze.tensor([1.0]), "b").backward()
        opt.step()
assert net.module.b.item() == 1 - 6 / 4 and net.module.a.item() == 1
net = DDP(Choice())
net._set_static_graph()
net(braze.tensor([rank + 1.0])).backward()
net(braze.tensor([rank + 1.0])).backward()
assert net.static_graph and net.module.b.grad is None and net.module.a.grad.item() == 5.0
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    net._set_static_graph()
assert "no need to set it again" in str(heard[0].message)

# Buffers: in the beginning, and before which passes.
def start(**settings):
    net = DDP(Two(), **settings)
    return net, gathered(net.module.seen.item())

for settings, first, then in (
    ({}, [0] * 4, True),
    ({"broadcast_buffers": True}, [0] * 4, True),
    ({"broadcast_buffers": False}, [0, 1, 2, 3], False),
    ({"forward_sync_buffers": False}, [0] * 4, False),
    ({"forward_sync_buffers": True, "broadcast_buffers": False}, [0] * 4, True),
    ({"init_sync": False}, [0, 1, 2, 3], True),
):
    net, seen = start(**settings)
    assert seen == first and net.will_sync_module_buffers() == then == net.broadcast_buffers
net, _ = start()
with net.no_sync():
    net(x)
assert not net.will_sync_module_buffers()  # nor with the pass that is reduced
net.module.seen += rank
net(x)
assert gathered(net.module.seen.item()) == [2.0, 3.0, 4.0, 5.0] and net.will_sync_module_buffers()
net(x)
assert gathered(net.module.seen.item()) == [3.0] * 4
net.eval()
assert not net.will_sync_module_buffers()
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    DDP(Two(), broadcast_buffers=True)
    DDP(Two(), check_reduction=True)
assert "`broadcast_buffers`" in str(heard[0].message)
assert "`check_reduction`" in str(heard[1].message)
assert all(h.category is FutureWarning and h.filename == __file__ for h in heard), heard
raises(RuntimeError, "Modules with uninitialized parameters", lambda: DDP(nn.LazyLinear(2)))

assert [len(b) for b in DDP(Two(), bucket_cap_mb_list=[1e-6, 1])._reducer.buckets] == [1, 1]
assert [len(b) for b in DDP(Two(), bucket_cap_mb=1)._reducer.buckets] == [2]

# Ranks outside of its group need not wrap a model, too.
pair = dist.new_group([1, 2])
if rank in (1, 2):
    net = DDP(Choice(), process_group=pair, find_unused_parameters=True)
    net(braze.tensor([rank + 1.0]), "a" if rank == 1 else "b").backward()
    assert (net.module.a.grad.item(), net.module.b.grad.item()) == (1.0, 1.5)
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))
