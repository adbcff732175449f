"""Layers that ranks compute together, held against the same layer on one."""

import pytest
from ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")


def test_layers_and_their_gradients(tmp_path):
    outcome = run_ranks(
        f"""
from braze import nn
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard
from braze.distributed.tensor.parallel import *
from braze.distributed.tensor import parallel
import braze.nn.functional as F

def part(whole, dim):
    return np.split(whole.detach().numpy(), size, dim)[rank]

def near(a, b, what):
    a, b = (v.detach().numpy() if isinstance(v, braze.Tensor) else v for v in (a, b))
    assert a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6), (what, a, b)

x = (braze.arange(60.0).reshape(5, 12) / 7).sin()
words = braze.tensor([[0, 3, 7], [6, 3, 5]])
for tier in ("interpret", "compile"):
    braze.config.tier = tier
    for bias in (True, False):
        pairs = []
        for cut, make, whole in (
            (0, lambda: ColumnParallelLinear(12, 8, bias), lambda: nn.Linear(12, 8, bias)),
            (1, lambda: RowParallelLinear(12, 8, bias), lambda: nn.Linear(12, 8, bias)),
            (0, lambda: VocabParallelEmbedding(8, 6, 3 if bias else None),
             lambda: nn.Embedding(8, 6, 3 if bias else None)),
        ):
            braze.manual_seed(1); one = whole()
            braze.manual_seed(1); many = make()
            near(many.weight, part(one.weight, cut), "weight")
            results = []
            for layer in (one, many):
                given = words if isinstance(one, nn.Embedding) else x.clone().requires_grad_()
                y = layer(given)
                (y * y * braze.arange(y.numel()).reshape(y.shape)).sum().backward()
                results.append((y, given))
            near(results[1][0], results[0][0], "result")
            if results[0][1] is not words:
                near(results[1][1].grad, results[0][1].grad, "input's gradient")
            near(many.weight.grad, part(one.weight.grad, cut), "weight's gradient")
            if getattr(one, "bias", None) is not None:
                wanted = part(one.bias.grad, 0) if cut == 0 else one.bias.grad
                near(many.bias.grad, wanted, "bias's gradient")
            repr(many)

# The usual pair: columns that stay where they are, then rows; trained, and saved for one process.
def net(many):
    braze.manual_seed(5)
    if many:
        return nn.Sequential(
            VocabParallelEmbedding(8, 4), ColumnParallelLinear(4, 16, gather_output=False),
            nn.Tanh(), RowParallelLinear(16, 3, input_is_parallel=True))
    return nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))

target = braze.tensor([0, 1, 2, 2, 1, 0])
losses, nets = [], []
for many in (False, True):
    model = net(many)
    opt = braze.optim.Adam(model.parameters(), lr=0.05)
    found = []
    for _ in range(6):
        opt.zero_grad()
        loss = F.cross_entropy(model(words).reshape(-1, 3), target)
        loss.backward()
        opt.step()
        found.append(loss.item())
    losses.append(found); nets.append(model)
assert np.allclose(*losses, rtol=1e-5) and losses[0][-1] < 0.7 * losses[0][0], losses
state = {{f"{{i}}.{{n}}": v for i in (0, 1, 3) for n, v in nets[1][i].sharded_state_dict().items()}}
assert isinstance(state["1.weight"], Shard) and state["1.weight"].shape == (16, 4)
checkpoint.save(state, checkpoint_id="{tmp_path}/c")
one = net(False)
[p.detach().zero_() for p in one.parameters()]
whole = {{n: p.detach() for n, p in one.named_parameters()}}
checkpoint.load(whole, checkpoint_id="{tmp_path}/c")
for p, q in zip(one.parameters(), nets[0].parameters()):
    assert np.allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-5)

# The maps by themselves, and twice differentiated.
w = braze.full((2, 4), float(rank), requires_grad=True)
assert parallel.reduce_from_ranks(w).unique().tolist() == [6.0]
assert parallel.gather_from_ranks(w)[0].tolist() == [float(r) for r in range(4) for _ in range(4)]
turned = parallel.reduce_from_ranks(braze.complex(w, 1 - w).detach())
assert turned.tolist() == [[6 - 2j] * 4] * 2
v = braze.arange(8.0).requires_grad_()
assert parallel.scatter_to_ranks(v).tolist() == [2.0 * rank, 2.0 * rank + 1]
y = (parallel.copy_to_ranks(v) ** 3).sum() * (rank + 1)
(g,) = braze.autograd.grad(y, v, create_graph=True)
assert np.allclose(g.detach().numpy(), 10 * 3 * np.arange(8) ** 2)
(h,) = braze.autograd.grad((g * g).sum() / 2, v)
assert np.allclose(h.numpy(), 10 * 3 * np.arange(8) ** 2 * 10 * 6 * np.arange(8)), h

for wrong, error, text in (
    (lambda: ColumnParallelLinear(4, 6), ValueError, "dimension 0 of the weight, 6, does"),
    (lambda: RowParallelLinear(6, 4), ValueError, "dimension 1 of the weight, 6, does"),
    (lambda: VocabParallelEmbedding(7, 4), ValueError, "dimension 0 of the weight, 7"),
    (lambda: parallel.scatter_to_ranks(braze.ones(3)), ValueError, "last dimension, 3"),
):
    try:
        wrong()
    except error as found:
        assert text in str(found), found
    else:
        raise AssertionError(text)
dist.barrier()
for bad in (8, -1):
    try:
        VocabParallelEmbedding(8, 2)(braze.tensor([bad])).sum().item()
    except IndexError:
        pass
    else:
        raise AssertionError(bad)
    dist.barrier()
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome
