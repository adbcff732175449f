"""Cases of normalisation layers and functions."""

import numpy as np
from compare_cases import case
from compare_modules import functional, module

BATCH = {"BatchNorm1d": (4, 3, 5), "BatchNorm2d": (2, 3, 4, 2), "BatchNorm3d": (2, 3, 2, 2, 2)}
INSTANCE = {
    "InstanceNorm1d": (2, 3, 5), "InstanceNorm2d": (2, 3, 4, 2), "InstanceNorm3d": (2, 3, 2, 2, 2),
}  # fmt: skip


def three_batches(m, made, x):
    """Outputs of three batches, one of them in evaluation."""
    found = [made(x), made(x * 2 + 1)]
    made.eval()
    return [*found, made(x)]


def old_state(m, made, x):
    """What a state without versions and counts, as early programs saved it, makes of a layer."""
    made(x)
    state = made.state_dict()
    for key in [key for key in state if key.endswith("num_batches_tracked")]:
        del state[key]
    del state._metadata
    return made.load_state_dict(state), made(x)


# Batch normalisation ------------------------------------------------------------------------------


@case(*(f"torch.nn.{name}" for name in BATCH), "torch.nn.SyncBatchNorm")
def batch_norm_layers(c, name):
    shape = BATCH.get(name, (2, 3, 4))
    make = lambda nn, *a, **k: getattr(nn, name)(*a, **k)  # noqa: E731
    module(c, lambda nn: make(nn, 3), c.f64(*shape), gradients=2)
    module(c, lambda nn: make(nn, 3, 0.1, None), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3, eps=1e-3, momentum=0.3), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3, affine=False), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3, bias=False), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3, track_running_stats=False), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3), c.f64(*shape), evaluate=True, gradients=2)
    module(c, lambda nn: make(nn, 3), c.f32(*shape), dtype=None, atol=1e-5)
    module(c, lambda nn: make(nn, 3), c.f64(*shape), call=old_state)
    module(c, lambda nn: make(nn, 3), c.f64(0, *shape[1:]), evaluate=True)
    c(lambda m: make(m.nn, 2, dtype=m.float64).state_dict())

    def reset(m, x):
        made = make(m.nn, 3)
        made(x)
        made.reset_running_stats()
        return made.state_dict()

    c(reset, c.f32(*shape))
    c.error(lambda m, x: make(m.nn, 3)(x), c.f32(3))
    c.error(lambda m, x: make(m.nn, 4)(x), c.f32(*shape))
    c.error(lambda m, x: make(m.nn, 3)(x), c.f32(1, 3, *[1] * (len(shape) - 2)))
    c.error(lambda m, x: make(m.nn, 3, eps=0.0)(x), c.f32(*shape))
    if name in BATCH:
        c.error(lambda m, x: make(m.nn, 3)(x), c.f32(2, 3, 1, 1, 1, 1))
    else:
        c.error(lambda m, x: make(m.nn, 3)(x), c.f32(2, 0, 4))


@case("torch.nn.BatchNorm1d")
def batch_norm_of_vectors(c):
    module(c, lambda nn: nn.BatchNorm1d(3), c.f64(4, 3), gradients=2)
    module(c, lambda nn: nn.BatchNorm1d(3), c.f64(4, 3), call=three_batches)
    c.error(lambda m, x: m.nn.BatchNorm1d(3)(x), c.f32(1, 3))


@case("torch.nn.SyncBatchNorm")
def convert_sync_batch_norm(c):
    def convert(m, x):
        nn = m.nn
        layers = (nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, momentum=0.3), nn.ReLU())
        net = nn.Sequential(*layers, nn.Sequential(nn.BatchNorm1d(3, affine=False)))
        before = dict(net.named_parameters())
        made = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        after = dict(made.named_parameters())
        same = [after[name] is value for name, value in before.items()]
        return made is net, same, repr(made), list(made.state_dict()), made(x).shape

    c(convert, c.f32(2, 2, 4))
    c(lambda m: repr(m.nn.SyncBatchNorm.convert_sync_batchnorm(m.nn.BatchNorm2d(2).eval())))
    c(lambda m: m.nn.SyncBatchNorm.convert_sync_batchnorm(m.nn.BatchNorm2d(2).eval()).training)


@case("torch.nn.functional.batch_norm")
def batch_norm(c):
    f = functional
    x = c.f64(4, 3, 2)
    mean, var = c.f64(3).constant(), c.f64(3, low=0.5).constant()
    c(f("batch_norm"), x, mean, var, gradients=2)
    c(f("batch_norm"), x, mean, var, c.f64(3), c.f64(3), gradients=2)
    c(lambda m, x, a, b, w, s: m.nn.functional.batch_norm(x, a, b, w, s, True, 0.3, 1e-3),
      x, mean, var, c.f64(3), c.f64(3), gradients=2)  # fmt: skip
    c(lambda m, x: m.nn.functional.batch_norm(x, None, None, training=True), x, gradients=2)
    c(lambda m, x, w: m.nn.functional.batch_norm(x, None, None, w, training=True), x, c.f64(3))
    c(lambda m, x, b: m.nn.functional.batch_norm(x, None, None, None, b, True), x, c.f64(3))
    c(f("batch_norm"), c.f32(2, 3), c.f32(3), c.f32(3, low=0.5), atol=1e-5)
    c.error(f("batch_norm", None, None), x)
    c.error(lambda m, x: m.nn.functional.batch_norm(x, None, None, training=True), c.f32(1, 3))
    c.error(lambda m, x: m.nn.functional.batch_norm(x, None, None, None, None, True, 0.1, 0.0), x)
    c.error(lambda m, x, a, b: m.nn.functional.batch_norm(x, a, b, eps=-1.0), x, mean, var)
    c.error(f("batch_norm"), x, c.f64(2), c.f64(2))
    c.error(lambda m, x, w: m.nn.functional.batch_norm(x, None, None, w, training=True),
            x, c.f64(4))  # fmt: skip


# Instance normalisation ---------------------------------------------------------------------------


@case(*(f"torch.nn.{name}" for name in INSTANCE))
def instance_norm_layers(c, name):
    shape = INSTANCE[name]
    make = lambda nn, *a, **k: getattr(nn, name)(*a, **k)  # noqa: E731
    module(c, lambda nn: make(nn, 3), c.f64(*shape), gradients=2)
    module(c, lambda nn: make(nn, 3), c.f64(*shape[1:]), evaluate=True)
    module(c, lambda nn: make(nn, 3, affine=True), c.f64(*shape), gradients=2)
    module(c, lambda nn: make(nn, 3, affine=True, bias=False), c.f64(*shape[1:]))
    module(c, lambda nn: make(nn, 3, 0.1, 0.3, True, True), c.f64(*shape), call=three_batches)
    module(c, lambda nn: make(nn, 3, momentum=None, track_running_stats=True), c.f64(*shape),
           call=three_batches)  # fmt: skip
    module(c, lambda nn: make(nn, 3, track_running_stats=True), c.f64(*shape), evaluate=True)
    module(c, lambda nn: make(nn, 3, track_running_stats=True), c.f64(*shape), call=old_state)
    module(c, lambda nn: make(nn, 7), c.f64(*shape))
    module(c, lambda nn: make(nn, 3), c.f32(*shape), dtype=None, atol=1e-5)
    c.error(lambda m, x: make(m.nn, 4, affine=True)(x), c.f32(*shape))
    c.error(lambda m, x: make(m.nn, 3)(x), c.f32(3))
    c.error(lambda m, x: make(m.nn, 3)(x), c.f32(2, 3, *[1] * (len(shape) - 2)))

    def statistics_of_old(m, version):
        made = make(m.nn, 3)
        state = make(m.nn, 3, track_running_stats=True).state_dict()
        if version is None:
            del state._metadata
        return made.load_state_dict(state)

    c.error(lambda m: statistics_of_old(m, None))
    c.error(lambda m: statistics_of_old(m, 2))


@case("torch.nn.functional.instance_norm")
def instance_norm(c):
    f = functional
    x, w = c.f64(2, 3, 4), c.f64(3)
    mean, var = c.f64(3).constant(), c.f64(3, low=0.5).constant()
    c(f("instance_norm"), x, gradients=2)
    c(f("instance_norm"), x, mean, var, w, c.f64(3), gradients=2)
    c(lambda m, *t: m.nn.functional.instance_norm(*t, None, None, False), x, mean, var, gradients=2)
    c(lambda m, *t: m.nn.functional.instance_norm(*t, momentum=0.4, eps=0.1), x, mean, var)
    c(f("instance_norm"), c.f32(2, 3, 4, 2, 2), atol=1e-5)
    c.error(f("instance_norm"), c.f32(2, 3, 1))
    c.error(f("instance_norm", use_input_stats=False), x)
    c.error(lambda m, x, w: m.nn.functional.instance_norm(x, weight=w), x, c.f64(2))


# Layer and group normalisation --------------------------------------------------------------------


@case("torch.nn.LayerNorm")
def layer_norm_layer(c):
    module(c, lambda nn: nn.LayerNorm(4), c.f64(3, 4), gradients=2)
    module(c, lambda nn: nn.LayerNorm((3, 4), 0.1), c.f64(2, 3, 4), gradients=2)
    module(c, lambda nn: nn.LayerNorm([4], bias=False), c.f64(2, 3, 4))
    module(c, lambda nn: nn.LayerNorm(4, elementwise_affine=False), c.f64(4))
    module(c, lambda nn: nn.LayerNorm(4), c.f32(0, 4), dtype=None)
    c(lambda m: m.nn.LayerNorm(2, dtype=m.float64).state_dict())
    c.error(lambda m, x: m.nn.LayerNorm(3)(x), c.f32(3, 4))
    c.error(lambda m, x: m.nn.LayerNorm((2, 4))(x), c.f32(3, 4))


@case("torch.nn.functional.layer_norm")
def layer_norm(c):
    f = functional
    c(f("layer_norm", (4,)), c.f64(3, 4), gradients=2)
    c(lambda m, x, w, b: m.nn.functional.layer_norm(x, (3, 4), w, b, 0.1),
      c.f64(2, 3, 4), c.f64(3, 4), c.f64(3, 4), gradients=2)  # fmt: skip
    c(lambda m, x, b: m.nn.functional.layer_norm(x, [4], bias=b), c.f64(3, 4), c.f64(4))
    c(f("layer_norm", (4,)), c.f32(3, 4).seen("transposed"), atol=1e-5)
    c.error(f("layer_norm", (3,)), c.f32(3, 4))
    c.error(f("layer_norm", ()), c.f32(3, 4))
    c.error(lambda m, x, w: m.nn.functional.layer_norm(x, (4,), w), c.f32(3, 4), c.f32(3))
    c.error(lambda m, x: m.nn.functional.layer_norm(x), c.f32(3, 4))


@case("torch.nn.GroupNorm")
def group_norm_layer(c):
    module(c, lambda nn: nn.GroupNorm(2, 4), c.f64(2, 4, 3), gradients=2)
    module(c, lambda nn: nn.GroupNorm(1, 4, 0.1), c.f64(2, 4, 3, 2), gradients=2)
    module(c, lambda nn: nn.GroupNorm(4, 4, affine=False), c.f64(2, 4, 3))
    module(c, lambda nn: nn.GroupNorm(2, 4, bias=False), c.f64(3, 4))
    module(c, lambda nn: nn.GroupNorm(2, 4), c.f32(2, 4, 3), dtype=None, atol=1e-5)
    c.error(lambda m: m.nn.GroupNorm(3, 4))
    c.error(lambda m, x: m.nn.GroupNorm(2, 4)(x), c.f32(2, 6, 3))
    c.error(lambda m, x: m.nn.GroupNorm(2, 2)(x), c.f32(1, 2))
    c.error(lambda m, x: m.nn.GroupNorm(2, 4)(x), c.f32(4))


@case("torch.nn.functional.group_norm")
def group_norm(c):
    f = functional
    c(f("group_norm", 2), c.f64(2, 4, 3), gradients=2)
    c(lambda m, x, w, b: m.nn.functional.group_norm(x, 2, w, b, 0.1), c.f64(2, 4, 3), c.f64(4),
      c.f64(4), gradients=2)  # fmt: skip
    c(lambda m, x: m.nn.functional.group_norm(input=x, num_groups=4), c.f32(2, 4, 3), atol=1e-5)
    c.error(f("group_norm", 3), c.f32(2, 4, 3))
    c.error(f("group_norm", 2), c.f32(4))
    c.error(f("group_norm", 4), c.f32(1, 4, 1))
    c.error(lambda m, x, w: m.nn.functional.group_norm(x, 2, w), c.f32(2, 4, 3), c.f32(3))


# Others -------------------------------------------------------------------------------------------


@case("torch.nn.LocalResponseNorm")
def local_response_norm_layer(c):
    module(c, lambda nn: nn.LocalResponseNorm(3), c.f64(2, 5, 3), gradients=2)
    module(c, lambda nn: nn.LocalResponseNorm(2, 0.5, 0.6, 2), c.f64(2, 5, 3, 2), gradients=2)
    c.error(lambda m, x: m.nn.LocalResponseNorm(2)(x), c.f32(2, 5))


@case("torch.nn.functional.local_response_norm")
def local_response_norm(c):
    f, name = functional, "local_response_norm"
    for size in (1, 2, 3, 4, 9):
        c(f(name, size, 0.5), c.f64(2, 5, 3), gradients=2)
        c(f(name, size, alpha=0.3, beta=0.4, k=2), c.f64(2, 5, 3, 2))
    c(f(name, 3), c.f64(2, 5, 2, 2, 2))
    c(f(name, 3), c.f32(0, 5, 2))
    c.error(f(name, 3), c.f32(2, 5))
    c.error(f(name), c.f32(2, 5, 3))


@case("torch.nn.CrossMapLRN2d")
def cross_map(c):
    module(c, lambda nn: nn.CrossMapLRN2d(3, 0.5, 0.7, 2), c.f64(2, 2, 3, 2).constant())
    module(c, lambda nn: nn.CrossMapLRN2d(5, alpha=1.0), c.f64(2, 3, 3, 2).constant())
    module(c, lambda nn: nn.CrossMapLRN2d(4), c.f64(2, 2, 3, 2).constant())
    module(c, lambda nn: nn.CrossMapLRN2d(1), c.f64(2, 1, 3, 2).constant())
    module(c, lambda nn: nn.CrossMapLRN2d(3, 1.0), c.f64(2, 6, 3, 2).constant(), known=True)
    module(c, lambda nn: nn.CrossMapLRN2d(3, 1.0), c.f64(2, 2, 3, 2), known=True)
    c.error(lambda m, x: m.nn.CrossMapLRN2d(3)(x), c.f32(2, 5, 3))


@case("torch.nn.RMSNorm")
def rms_norm_layer(c):
    module(c, lambda nn: nn.RMSNorm(4), c.f64(3, 4), gradients=2)
    module(c, lambda nn: nn.RMSNorm((3, 4), 0.1), c.f64(2, 3, 4), gradients=2)
    module(c, lambda nn: nn.RMSNorm([4], elementwise_affine=False), c.f64(2, 3, 4))
    module(c, lambda nn: nn.RMSNorm(4), c.f32(3, 4), dtype=None, atol=1e-5)
    c.error(lambda m, x: m.nn.RMSNorm(3)(x), c.f32(3, 4))


@case("torch.nn.functional.rms_norm")
def rms_norm(c):
    f = functional
    c(f("rms_norm", (4,)), c.f64(3, 4), gradients=2)
    c(lambda m, x, w: m.nn.functional.rms_norm(x, (3, 4), w, 0.1), c.f64(2, 3, 4), c.f64(3, 4),
      gradients=2)  # fmt: skip
    c(f("rms_norm", [4], eps=1e-3), c.f32(3, 4))
    c(f("rms_norm", [4]), c.exactly(np.zeros((2, 4))).constant(), gradients=0)
    for dtype in ("float16", "bfloat16"):
        c(f("rms_norm", (4,)), c.of(dtype, 3, 4))
    c.error(f("rms_norm", (3,)), c.f32(3, 4))
    c.error(f("rms_norm", ()), c.f32(3, 4))
    c.error(lambda m, x, w: m.nn.functional.rms_norm(x, (4,), w), c.f32(3, 4), c.f32(3))


@case("torch.nn.functional.normalize")
def normalize(c):
    f = functional
    for p in (2.0, 1, 3, 0.5, float("inf")):
        c(f("normalize", p), c.f64(3, 4), gradients=2)
    c(f("normalize", dim=0), c.f64(3, 4), gradients=2)
    c(f("normalize", dim=(0, 2)), c.f64(2, 3, 4))
    c(f("normalize", 2, -1, 0.7), c.f64(3, 4, low=-0.2, high=0.2), gradients=2)
    c(f("normalize", dim=0), c.f64(4))
    c(f("normalize"), c.exactly(np.zeros((2, 3))), gradients=1)
    c(lambda m, x: m.nn.functional.normalize(x, out=m.empty(3, 4)), c.f32(3, 4))
    c.dtypes(f("normalize"), (3, 4), gradients=0)
    c.error(f("normalize"), c.f32(4))
    c.error(f("normalize", dim=2), c.f32(3, 4))
