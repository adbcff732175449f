"""Cases of convolution layers, their functions, and of blocks as columns."""

import numpy as np
from compare_cases import case
from compare_modules import functional, module

SIZES = (6, 5, 4)
KERNELS = (3, 2, 2)


# Layers -------------------------------------------------------------------------------------------


@case("torch.nn.Conv1d", "torch.nn.Conv2d", "torch.nn.Conv3d")
def conv(c, name):
    n = int(name[4])
    size, kernel = SIZES[:n], KERNELS[:n]

    def layer(*args, **kwargs):
        return lambda nn: getattr(nn, name)(*args, **kwargs)

    x = c.f64(2, 4, *size)
    module(c, layer(4, 6, kernel), x, gradients=2)
    module(c, layer(4, 6, 3, 2, 1), x)
    module(c, layer(4, 6, kernel, groups=2, dilation=(1,) * n, bias=False), x)
    module(c, layer(4, 4, kernel, groups=4), c.f64(4, *size))
    module(c, layer(4, 3, kernel), c.f64(0, 4, *size))
    module(c, layer(4, 3, 2, padding=1, dilation=2), c.f32(2, 4, *size), dtype=None, atol=1e-5)
    for padding in ("same", "valid", 1, (2,) * n):
        module(c, layer(4, 3, kernel, padding=padding), x, compiled=False)
    for mode in ("reflect", "replicate", "circular"):
        module(c, layer(4, 3, kernel, padding=1, padding_mode=mode), x, compiled=False)
        module(c, layer(4, 3, kernel, padding="same", padding_mode=mode), x, compiled=False)
    module(
        c,
        layer(4, 3, 3, padding=1, padding_mode="circular", groups=1),
        c.f64(4, *size),
        compiled=False,
    )

    def with_other_weights(m, layer, x):
        return layer._conv_forward(x, layer.weight * 2, None)

    module(c, layer(4, 3, kernel), x, call=with_other_weights, compiled=False)
    c.error(lambda m, x: layer(4, 3, 2)(m.nn)(x), c.f32(2, 5, *size))
    c.error(lambda m, x: layer(4, 3, 2)(m.nn)(x), c.f64(2, 4, *size))
    c.error(lambda m, x: layer(4, 3, 2)(m.nn)(x), c.f32(4))
    c.error(lambda m, x: layer(4, 3, 9)(m.nn)(x), c.f32(2, 4, *size))
    for kwargs in (
        {"padding": "other"}, {"padding": "same", "stride": 2}, {"padding_mode": "other"},
        {"groups": 3}, {"groups": 0},
    ):  # fmt: skip
        c.error(lambda m, kwargs=kwargs: layer(4, 6, 2, **kwargs)(m.nn))
    c.error(lambda m: layer(4, 3, 2, groups=2)(m.nn))


@case("torch.nn.ConvTranspose1d", "torch.nn.ConvTranspose2d", "torch.nn.ConvTranspose3d")
def conv_transpose(c, name):
    n = int(name[-2])
    size, kernel = (4, 3, 3)[:n], KERNELS[:n]

    def layer(*args, **kwargs):
        return lambda nn: getattr(nn, name)(*args, **kwargs)

    x = c.f64(2, 4, *size)
    module(c, layer(4, 6, kernel), x, gradients=2)
    module(c, layer(4, 6, 3, 2, 1, 1), x)
    module(c, layer(4, 6, kernel, groups=2, dilation=2, bias=False), x)
    module(c, layer(4, 3, kernel), c.f64(4, *size), compiled=False)
    module(c, layer(4, 3, kernel, stride=2), c.f32(2, 4, *size), dtype=None, atol=1e-5)
    # More padding of the result than the stride, which the dilation allows.
    module(c, layer(4, 3, 3, 2, 1, 2, dilation=3), x, compiled=False)
    module(c, layer(4, 3, 3, 1, 3, 2, dilation=3), x, compiled=False, gradients=2)
    wanted = tuple(2 * s + 1 for s in size)

    def sized(*size):
        return lambda m, layer, x: layer(x, output_size=size)

    module(c, layer(4, 3, 2, 2), x, call=sized(*wanted), compiled=False)
    module(c, layer(4, 3, 2, 2), x, call=sized(2, 3, *wanted), compiled=False)
    module(c, layer(4, 3, 2, 2), c.f64(4, *size), call=sized(3, *wanted), compiled=False)
    bad = (tuple(s + 2 for s in wanted), (1,) * (n + 1), wanted + (1, 1))
    for size_ in bad:
        c.error(lambda m, x, s=size_: layer(4, 3, 2, 2)(m.nn)(x, output_size=s), c.f32(2, 4, *size))
    c.error(lambda m, x: layer(4, 3, 2)(m.nn)(x), c.f32(2, 5, *size))
    c.error(lambda m, x: layer(4, 3, 2)(m.nn)(x), c.f32(4))
    c.error(lambda m, x: layer(4, 3, 2, output_padding=1)(m.nn)(x), c.f32(2, 4, *size))
    c.error(lambda m: layer(4, 3, 2, padding_mode="reflect")(m.nn))
    c.error(lambda m: layer(4, 6, 2, groups=4)(m.nn))


@case("torch.nn.Unfold")
def unfold_layer(c):
    module(c, lambda nn: nn.Unfold(2), c.f64(2, 3, 4, 5), gradients=2)
    module(c, lambda nn: nn.Unfold((2, 3), 2, (1, 2), 2), c.f64(2, 3, 6, 7))
    module(c, lambda nn: nn.Unfold(2, stride=(2, 1)), c.f64(3, 4, 5))
    c.error(lambda m, x: m.nn.Unfold(6)(x), c.f32(2, 3, 4, 5))


@case("torch.nn.Fold")
def fold_layer(c):
    module(c, lambda nn: nn.Fold((4, 5), 2), c.f64(2, 12, 12), gradients=2)
    module(c, lambda nn: nn.Fold(4, 2, stride=2), c.f64(2, 12, 4), gradients=2)
    module(c, lambda nn: nn.Fold((4, 5), (2, 3), padding=(1, 0), dilation=(2, 1)), c.f64(12, 12))
    c.error(lambda m, x: m.nn.Fold((4, 5), 2)(x), c.f32(2, 12, 13))


# Functions ----------------------------------------------------------------------------------------


@case(
    "torch.nn.functional.conv1d", "torch.nn.functional.conv2d", "torch.nn.functional.conv3d"
)  # fmt: skip
def functional_conv(c, name):
    n = int(name[4])
    x, w = c.f64(2, 4, *SIZES[:n]), c.f64(3, 4, *KERNELS[:n])
    c(functional(name), x, w, gradients=2)
    c(lambda m, x, w, b: getattr(m.nn.functional, name)(x, w, b, 2, 1), x, w, c.f64(3))
    c(functional(name, None, (2,) * n, (1,) * n, 1, 2), x, c.f64(4, 2, *KERNELS[:n]))
    c(functional(name, padding="same", dilation=2), x, w, compiled=False)
    c(functional(name), c.f64(4, *SIZES[:n]), w, compiled=False)
    c(functional(name), c.f64(0, 4, *SIZES[:n]), w, compiled=False)
    c.error(functional(name, padding="same", stride=2), x, w)
    c.error(functional(name, stride=0), x, w)
    c.error(functional(name, dilation=0), x, w)
    c.error(functional(name, padding=-1), x, w)
    c.error(functional(name, groups=3), x, w)
    c.error(functional(name), x, c.f64(3, 4))
    c.error(functional(name, stride=(1,) * (n + 1)), x, w)
    c.error(lambda m, x, w, b: getattr(m.nn.functional, name)(x, w, b), x, w, c.f64(4))


@case(
    "torch.nn.functional.conv_transpose1d", "torch.nn.functional.conv_transpose2d",
    "torch.nn.functional.conv_transpose3d",
)  # fmt: skip
def functional_conv_transpose(c, name):
    n = int(name[-2])
    x, w = c.f64(2, 4, *(4, 3, 3)[:n]), c.f64(4, 2, *KERNELS[:n])
    c(functional(name), x, w, gradients=2)
    c(lambda m, x, w, b: getattr(m.nn.functional, name)(x, w, b, 2, 1, 1), x, w, c.f64(2))
    c(functional(name, groups=2, dilation=2), x, w)
    c(functional(name, stride=2, output_padding=2, padding=1, dilation=3), x, w, compiled=False)
    c(functional(name), c.f64(4, *(4, 3, 3)[:n]), w, compiled=False)
    c.error(functional(name, output_padding=1), x, w)
    c.error(functional(name, padding=-1), x, w)
    c.error(functional(name, stride=0), x, w)
    c.error(functional(name, padding=9), x, w)
    c.error(functional(name), c.f64(2, 3, *(4, 3, 3)[:n]), w)
    c.error(lambda m, x, w, b: getattr(m.nn.functional, name)(x, w, b), x, w, c.f64(3))


@case("torch.nn.functional.unfold")
def unfold(c):
    x = c.f64(2, 3, 4, 5)
    c(functional("unfold", 2), x, gradients=2)
    c(functional("unfold", (2, 3), 2, (1, 2), (2, 1)), x, gradients=2)
    c(functional("unfold", (2, 2), stride=2), c.f64(3, 4, 5))
    c(functional("unfold", 2), c.f64(0, 3, 4, 5), compiled=False)
    c(functional("unfold", 2), c.f64(2, 3, 5, 4).seen("transposed"), compiled=False)
    c.dtypes(functional("unfold", 2), (2, 3, 4, 5))
    for args in ((7,), (0,), (2, 1, -1), (2, 1, 0, 0), (2, 0), ((2,),)):
        c.error(functional("unfold", *args), x)
    c.error(functional("unfold", (2, 2, 2)), x)
    c.error(functional("unfold", 2), c.f32(2, 0, 4, 5))
    c.error(functional("unfold", 2), c.f32(3))


@case("torch.nn.functional.fold")
def fold(c):
    x = c.f64(2, 12, 12)
    c(functional("fold", (4, 5), 2), x, gradients=2)
    c(functional("fold", (5, 7), (2, 3), 2, (1, 2), (2, 1)), c.f64(2, 12, 21), gradients=2)
    c(functional("fold", 4, 2, stride=2), c.f64(12, 4))
    c(functional("fold", (5, 5), 2, stride=2), c.f64(2, 8, 4), compiled=False)
    c(functional("fold", (4, 5), 2), c.f64(0, 12, 12), compiled=False)
    c.dtypes(functional("fold", (4, 5), 2), (2, 12, 12))
    for args in (((4, 6), 2), ((4, 5), 5), ((0, 5), 2), ((4, 5, 1), 2), ((4, 5), 2, 0)):
        c.error(functional("fold", *args), x)
    c.error(functional("fold", (4, 5), 2, stride=0), x)
    c.error(functional("fold", (4, 5), 2), c.f32(2, 11, 12))
    c.error(functional("fold", (4, 5), 2), c.f32(12))


@case("torch.nn.functional.assert_int_or_pair")
def assert_int_or_pair(c):
    def check(value):
        return lambda m: m.nn.functional.assert_int_or_pair(value, "size", "{} is wrong")

    c(check(3))
    c(check((1, 2)))
    c.error(check((1, 2, 3)))
    c.error(check("a"))
    c.error(check(np.float64(1.0)))
