"""State dicts by the names of parameters, of models and optimizers together."""

import pytest
from ranks import run_ranks

import braze
from braze.distributed import checkpoint
from braze.distributed.checkpoint import state_dict as named
from braze.distributed.checkpoint.state_dict import StateDictOptions

pytestmark = pytest.mark.xdist_group("ranks")

MODEL = """
from braze import nn
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard, state_dict as named
from braze.distributed.tensor.parallel import *

def model(seed=2):
    braze.manual_seed(seed)
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    net[0].weight.requires_grad_(False)
    return net

def adam(net):
    return braze.optim.Adam([
        {"params": [p for n, p in net.named_parameters() if n.endswith("weight")]},
        {"params": [p for n, p in net.named_parameters() if n.endswith("bias")], "lr": 0.1},
    ], lr=0.05)

def learn(net, opt, steps=1):
    for step in range(steps):
        opt.zero_grad()
        net(braze.arange(24.0).reshape(6, 4).sin() * (step + 1)).square().sum().backward()
        opt.step()

def values(net):
    net.eval()
    return net(braze.arange(8.0).reshape(2, 4) / 8).detach().tolist()
"""


def test_as_in_pytorch():
    torch = pytest.importorskip("torch")
    from torch.distributed.checkpoint import state_dict as theirs

    found = []
    for lib, state in ((torch, theirs), (braze, named)):
        net = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.BatchNorm1d(3))
        net[0].bias.requires_grad_(False)
        groups = [{"params": [net[0].weight]}, {"params": [net[1].bias, net[1].weight], "lr": 0.5}]
        optimizer = lib.optim.Adam(groups)
        other = lib.optim.SGD([net[0].bias])
        net(lib.ones(4, 2)).sum().backward()
        optimizer.step()
        model, kept = state.get_state_dict(net, [optimizer, other])
        less = state.get_model_state_dict(
            net, options=state.StateDictOptions(ignore_frozen_params=True)
        )
        found.append(
            (
                list(model),
                list(less),
                {name: sorted(entry) for name, entry in kept["state"].items()},
                [(group["params"], group["lr"]) for group in kept["param_groups"]],
            )
        )
    assert found[0] == found[1]


def test_set_again():
    space = {"braze": braze}
    exec(MODEL, space)
    net, opt = space["model"](), None
    opt = space["adam"](net)
    space["learn"](net, opt, 2)
    model, kept = named.get_state_dict(net, opt)
    model = {name: value.clone() for name, value in model.items()}
    other = space["model"](5)
    # The same groups in another order, of two optimizers.
    by_name = dict(other.named_parameters())
    biases = [by_name[n] for n in ("3.bias", "1.bias", "0.bias")]
    weights = [by_name[n] for n in ("3.weight", "1.weight", "0.weight")]
    two = [braze.optim.Adam(biases), braze.optim.Adam(weights)]
    result = named.set_state_dict(other, two, model_state_dict=model, optim_state_dict=kept)
    assert not result.missing_keys
    assert [o.param_groups[0]["lr"] for o in two] == [0.1, 0.05]
    for parameter, source in zip(biases, ("3.bias", "1.bias"), strict=False):
        assert (
            two[0].state[parameter]["exp_avg"].tolist() == kept["state"][source]["exp_avg"].tolist()
        )
    missing = named.set_model_state_dict(
        other, {"3.bias": model["3.bias"]}, options=StateDictOptions(strict=False)
    )
    assert "0.weight" in missing.missing_keys
    with pytest.raises(RuntimeError, match="Missing key"):
        named.set_model_state_dict(other, {})
    with pytest.raises(RuntimeError, match="Optimizers are not passed in"):
        named.get_optimizer_state_dict(net, [])
    with pytest.raises(RuntimeError, match=r"that the model has not, of shape \(4,\)"):
        named.get_optimizer_state_dict(other, opt)
    with pytest.raises(RuntimeError, match=r"has no group of the parameters \['3.bias'\]"):
        named.set_optimizer_state_dict(other, braze.optim.Adam([by_name["3.bias"]]), kept)


def test_what_ranks_share_out(tmp_path):
    """Of a model in `DistributedDataParallel` on two pairs of ranks, read by one process."""
    space = {"braze": braze}
    exec(MODEL, space)
    net = space["model"]()
    opt = space["adam"](net)
    space["learn"](net, opt, 2)
    middle = {name: value.tolist() for name, value in net.state_dict().items()}
    outcome = run_ranks(
        MODEL
        + f"""
import copy
mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
plan = {{"1": ColwiseParallel(), "3": RowwiseParallel()}}
net = parallelize_module(model(), mesh["tp"], plan)
net = nn.parallel.DistributedDataParallel(net, process_group=mesh.get_group("dp"))
opt = adam(net)
learn(net, opt, 2)
state, kept = named.get_state_dict(net, opt)
part = kept["state"]["1.weight"]["exp_avg"]
assert isinstance(part, Shard) and part.shape == (8, 4) and part.tensor.shape == (4, 4)
assert isinstance(state["3.weight"], Shard) and not isinstance(state["3.bias"], Shard)
checkpoint.save({{"model": state, "optimizer": kept}}, checkpoint_id="{tmp_path}/c")
options = named.StateDictOptions(full_state_dict=True, cpu_offload=True)
whole, all_kept = copy.deepcopy(named.get_state_dict(net, opt, options=options))
for name, wanted in {middle!r}.items():
    assert np.allclose(whole[name].numpy(), wanted, rtol=1e-4, atol=1e-5), name
assert all_kept["state"]["1.weight"]["exp_avg"].shape == (8, 4)
learn(net, opt)
after = values(net)
net.train()
named.set_state_dict(net, opt, model_state_dict=whole, optim_state_dict=all_kept)
learn(net, opt)
# As it was after the same step before.
assert np.allclose(values(net), after, rtol=1e-4, atol=1e-5)
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome
    other = space["model"](7)
    adam = space["adam"](other)
    model, kept = named.get_state_dict(other, adam)
    state = {"model": model, "optimizer": {**kept, "state": {}}}
    checkpoint.load(state, checkpoint_id=tmp_path / "c")
    named.set_state_dict(
        other, adam, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    space["learn"](other, adam)
    space["learn"](net, opt)
    for name, value in net.state_dict().items():
        wanted = pytest.approx(value.reshape(-1).tolist(), rel=1e-4, abs=1e-5)
        assert other.state_dict()[name].reshape(-1).tolist() == wanted, name
