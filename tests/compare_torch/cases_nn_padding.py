"""Cases of padding layers and of `F.pad`."""

from compare_cases import case
from compare_modules import module

SIZES = (4, 5, 6)


def padding(*args, **kwargs):
    return lambda m, x: m.nn.functional.pad(x, *args, **kwargs)


def _layers(c, name, *rest):
    """Layers with one amount, with an amount for each side, and with ones that crop."""
    n = int(name[-2])
    x, y = c.f64(2, 3, *SIZES[:n]), c.f64(3, *SIZES[:n])
    module(c, lambda nn: getattr(nn, name)(2, *rest), x, gradients=2)
    module(c, lambda nn: getattr(nn, name)((1, 2, 0, 3, 2, 1)[: 2 * n], *rest), x)
    module(c, lambda nn: getattr(nn, name)([0, 1, 2, 0, 1, 1][: 2 * n], *rest), y)
    module(c, lambda nn: getattr(nn, name)((-1, 2, 1, -1, 0, 0)[: 2 * n], *rest), x, compiled=False)
    module(c, lambda nn: getattr(nn, name)(1, *rest), c.f64(0, 3, *SIZES[:n]), compiled=False)
    module(c, lambda nn: getattr(nn, name)(1, *rest), c.f32(2, 3, *SIZES[:n]), compiled=False)
    c.error(lambda m, x: getattr(m.nn, name)((1,), *rest)(x), x)
    c.error(lambda m: getattr(m.nn, name)())
    return x


@case(
    "torch.nn.ReflectionPad1d", "torch.nn.ReflectionPad2d", "torch.nn.ReflectionPad3d",
    "torch.nn.ReplicationPad1d", "torch.nn.ReplicationPad2d", "torch.nn.ReplicationPad3d",
    "torch.nn.CircularPad1d", "torch.nn.CircularPad2d", "torch.nn.CircularPad3d",
)  # fmt: skip
def border(c, name):
    x = _layers(c, name)
    n = int(name[-2])
    c.error(lambda m, x: getattr(m.nn, name)(1)(x), c.f32(*SIZES[:n]))
    c.error(lambda m, x: getattr(m.nn, name)(1)(x), c.f32(2, 2, 3, *SIZES[:n]))
    if "Circular" not in name:
        c.error(lambda m, x: getattr(m.nn, name)(1)(x), c.f32(2, 0, *SIZES[:n]))
    if "Replication" not in name:
        c.error(lambda m, x: getattr(m.nn, name)(9)(x), x)


@case(
    "torch.nn.ConstantPad1d", "torch.nn.ConstantPad2d", "torch.nn.ConstantPad3d",
)  # fmt: skip
def constant(c, name):
    _layers(c, name, 1.5)
    n = int(name[-2])
    module(c, lambda nn: getattr(nn, name)(1, value=2), c.i64(*SIZES[:n]), compiled=False)
    module(c, lambda nn: getattr(nn, name)(1, -1.0), c.f64(2, 2, 3, *SIZES[:n]), compiled=False)
    c.error(lambda m, x: getattr(m.nn, name)(-9, 0.0)(x), c.f32(*SIZES[:n]))
    c.error(lambda m: getattr(m.nn, name)(1))


@case("torch.nn.ZeroPad1d", "torch.nn.ZeroPad2d", "torch.nn.ZeroPad3d")
def zero(c, name):
    _layers(c, name)
    n = int(name[-2])
    module(c, lambda nn: getattr(nn, name)(1), c.f64(*SIZES[:n]), compiled=False)


@case("torch.nn.functional.pad")
def pad(c):
    x = c.f64(2, 3, 4, 5)
    c(padding((1, 2)), x, gradients=2)
    c(padding((1, 2, 0, 1), "reflect"), x, gradients=2)
    c(padding((1, 2, 0, 1), "replicate"), x, gradients=2)
    c(padding((1, 2, 0, 1), mode="circular"), x, gradients=2, compiled=False)
    c(padding([1, 0, 2, 1, 0, 1, 1, 1], "constant", 2.5), x, compiled=False)
    c(padding((-1, 2), value=-1), x.seen("transposed"), compiled=False)
    c(padding(()), x, compiled=False)
    c(padding((0, 0)), x, compiled=False)
    c(padding((0, 0), "reflect"), c.f64(3, 4), compiled=False)
    c(padding((1, 1), "reflect", 0), c.f64(3, 4), compiled=False)
    c(padding((1, 1), value=float("inf")), c.f64(3, 4), compiled=False)
    c(padding((3, 3), "reflect"), c.f64(3, 4), compiled=False)
    c(padding((4, 4), "circular"), c.f64(3, 4), compiled=False)
    c(padding((7, 9), "replicate"), c.f64(3, 4), compiled=False)
    c(padding((-3, 2), "reflect"), c.f64(3, 4), compiled=False)
    c(padding((3, -3), "reflect"), c.f64(3, 4), compiled=False)
    c(padding((-3, 2), "replicate"), c.f64(3, 4), compiled=False)
    c(padding((-1, 3), "circular"), c.f64(3, 4), compiled=False)
    c(padding((3, -1), "circular"), c.f64(3, 4), compiled=False)
    for mode in ("constant", "reflect", "replicate", "circular"):
        c.dtypes(padding((1, 2), mode), (3, 4))
        c.error(padding((-2, -3), mode), c.f32(3, 4))
        c.error(padding((1,), mode), c.f32(3, 4))
        c.error(padding((1, 1, 1, 1, 1, 1), mode), c.f32(3, 4))
        c.error(padding((1.5, 1), mode), c.f32(3, 4))
        c.error(padding(1, mode), c.f32(3, 4))
        c.error(padding(None, mode), c.f32(3, 4))
    for mode in ("reflect", "replicate", "circular"):
        c.error(padding((1, 1), mode), c.f32(4))
        c.error(padding((1, 1), mode), x)
        c.error(padding((1, 1), mode, 1.0), c.f32(3, 4))
        c.error(padding((1, 1), mode), c.f32(2, 3, 0))
        c.error(padding((1, 1, 1, 1), mode), c.f32(3, 4))
    c.error(padding((4, 1), "reflect"), c.f32(3, 4))
    c.error(padding((5, 1), "circular"), c.f32(3, 4))
    c.error(padding((1, 1), "other"), c.f32(3, 4))
    c.error(padding((-3, -3)), c.f32(3, 4))
    c.error(lambda m: m.nn.functional.pad(3, (1, 1)))
