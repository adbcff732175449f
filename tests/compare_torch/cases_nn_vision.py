"""Cases of layers and functions that resample images or exchange channels and pixels."""

import numpy as np
from compare_cases import case
from compare_modules import functional, module

# Channels and pixels ------------------------------------------------------------------------------


@case("torch.nn.PixelShuffle")
def pixel_shuffle_layer(c):
    module(c, lambda nn: nn.PixelShuffle(2), c.f64(2, 8, 2, 3), gradients=2)
    module(c, lambda nn: nn.PixelShuffle(3), c.i64(9, 2, 2))
    module(c, lambda nn: nn.PixelShuffle(upscale_factor=1), c.f32(1, 2, 1, 3, 2))
    c.error(lambda m, x: m.nn.PixelShuffle(2)(x), c.f32(1, 6, 2, 3))
    c.error(lambda m, x: m.nn.PixelShuffle(0)(x), c.f32(1, 6, 2, 3))


@case("torch.nn.PixelUnshuffle")
def pixel_unshuffle_layer(c):
    module(c, lambda nn: nn.PixelUnshuffle(2), c.f64(2, 3, 4, 6), gradients=2)
    module(c, lambda nn: nn.PixelUnshuffle(downscale_factor=3), c.i64(2, 3, 6))
    c.error(lambda m, x: m.nn.PixelUnshuffle(2)(x), c.f32(1, 6, 3, 4))
    c.error(lambda m, x: m.nn.PixelUnshuffle(-1)(x), c.f32(1, 6, 2, 4))


@case("torch.nn.ChannelShuffle")
def channel_shuffle_layer(c):
    module(c, lambda nn: nn.ChannelShuffle(2), c.f64(2, 6, 2, 3), gradients=2)
    module(c, lambda nn: nn.ChannelShuffle(groups=3), c.f32(2, 6, 5))
    c.error(lambda m, x: m.nn.ChannelShuffle(4)(x), c.f32(2, 6, 2, 3))
    c.error(lambda m, x: m.nn.ChannelShuffle(0)(x), c.f32(2, 6, 2, 3))
    c.error(lambda m, x: m.nn.ChannelShuffle(2)(x), c.f32(2, 6))


@case("torch.nn.functional.pixel_shuffle")
def pixel_shuffle(c):
    c(functional("pixel_shuffle", 2), c.f64(1, 8, 2, 3), gradients=2)
    c(lambda m, x: m.nn.functional.pixel_shuffle(input=x, upscale_factor=3), c.f32(9, 1, 2))
    c(functional("pixel_shuffle", 2), c.f64(2, 4, 3, 2).seen("transposed"))
    c.dtypes(functional("pixel_shuffle", 2), (4, 2, 2))
    c.error(functional("pixel_shuffle", 2), c.f32(1, 6, 2, 3))
    c.error(functional("pixel_shuffle", 2), c.f32(4, 2))


# Interpolation ------------------------------------------------------------------------------------


@case("torch.nn.functional.interpolate")
def interpolate(c):
    f = "interpolate"
    image = c.f64(2, 3, 4, 5)
    c(functional(f, scale_factor=2, mode="bilinear"), image, gradients=2)
    c(functional(f, (6, 3), mode="bicubic", align_corners=True), image, gradients=2)
    c(functional(f, size=(3, 9)), image, gradients=2)
    for mode, rank in [
        ("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 1), ("nearest-exact", 2),
        ("nearest-exact", 3), ("area", 1), ("area", 2), ("area", 3), ("linear", 1), ("bilinear", 2),
        ("bicubic", 2), ("trilinear", 3),
    ]:  # fmt: skip
        x = c.f64(2, 3, *[5, 4, 6][:rank])
        for size in ([7, 3, 8], [5, 4, 6], [1, 9, 2]):
            c(functional(f, size=tuple(size[:rank]), mode=mode), x, gradients=2)
        for factor in (2, 0.6, 1.3):
            for again in (True, False):
                c(functional(f, None, factor, mode, None, again), x)
        c(functional(f, scale_factor=(1.5, 0.7, 2.0)[:rank], mode=mode), c.f32(2, 3, *[5] * rank),
          atol=1e-5)  # fmt: skip
        if "near" not in mode and mode != "area":
            c(functional(f, scale_factor=1.7, mode=mode, align_corners=True), x)
            c(functional(f, size=1, mode=mode, align_corners=True), x)
    for mode in ("bilinear", "bicubic", "lanczos"):
        for size in ((2, 3), (6, 2), (9, 11)):
            c(functional(f, size, mode=mode, antialias=True), c.f64(2, 3, 7, 8), gradients=2)
        c(functional(f, scale_factor=(0.4, 0.7), mode=mode, antialias=True), c.f64(1, 2, 7, 8))
    c(functional(f, scale_factor=0.5, mode="bilinear", align_corners=True, antialias=True),
      c.f64(1, 2, 7, 8))  # fmt: skip
    c(functional(f, scale_factor=2, mode="bilinear"), image.seen("transposed"))
    c(functional(f, scale_factor=2, mode="bilinear"), c.f64(0, 3, 4, 5))
    for dtype in ("float16", "bfloat16"):
        c(functional(f, scale_factor=2, mode="bilinear"), c.of(dtype, 2, 3, 4, 5))
    pixels = c.of("uint8", 2, 3, 4, 5, low=0, high=255)
    for mode in ("nearest", "nearest-exact"):
        c(functional(f, scale_factor=1.6, mode=mode), pixels)
    for mode in ("linear", "area"):
        c.error(functional(f, 3, mode=mode), c.of("uint8", 2, 3, 4))
    c.error(functional(f, 3), c.i64(2, 3, 4))


@case("torch.nn.functional.interpolate")
def interpolate_refusals(c):
    f, x = "interpolate", c.f32(2, 3, 4, 5)
    c.error(functional(f), x)
    c.error(functional(f, 3, 2), x)
    c.error(functional(f, (3, 4, 5)), x)
    c.error(functional(f, None, (3, 4, 5)), x)
    c.error(functional(f, (3.5, 2)), x)
    c.error(functional(f, 0), x)
    c.error(functional(f, scale_factor=0.1), x)
    c.error(functional(f, 3, mode="nearest", align_corners=True), x)
    c.error(functional(f, 3, recompute_scale_factor=True), x)
    c.error(functional(f, 3, mode="linear"), x)
    c.error(functional(f, 3, mode="trilinear"), x)
    c.error(functional(f, 3, mode="bicubic"), c.f32(2, 3, 4))
    c.error(functional(f, 3, mode="bilinear"), c.f32(2, 3, 4))
    c.error(functional(f, 3, mode="sharp"), x)
    c.error(functional(f, 3, mode="nearest", antialias=True), x)
    c.error(functional(f, 3, mode="lanczos"), x)
    c.error(functional(f, 3, mode="lanczos", antialias=True, align_corners=True), x)
    c.error(functional(f, 3), c.f32(4, 5))
    c.error(functional(f, 3), c.f32(2, 0, 4, 5))


@case("torch.nn.functional.upsample")
def upsample(c):
    c(functional("upsample", scale_factor=2), c.f64(1, 2, 3, 4))
    c(functional("upsample", (5, 6), None, "bilinear", True), c.f64(1, 2, 3, 4))
    c.error(functional("upsample"), c.f32(1, 2, 3, 4))


@case("torch.nn.functional.upsample_nearest", "torch.nn.functional.upsample_bilinear")
def upsample_as(c, name):
    c(functional(name, scale_factor=2), c.f64(1, 2, 3, 4), gradients=2)
    c(functional(name, (5, 6)), c.f64(1, 2, 3, 4))
    c(lambda m, x: getattr(m.nn.functional, name)(input=x, size=3), c.f32(1, 2, 3, 4), atol=1e-5)
    c.error(functional(name), c.f32(1, 2, 3, 4))


@case("torch.nn.Upsample")
def upsample_layer(c):
    module(c, lambda nn: nn.Upsample(scale_factor=2), c.f64(1, 2, 3, 4), gradients=2)
    module(c, lambda nn: nn.Upsample((5, 3), mode="bilinear"), c.f64(1, 2, 3, 4), gradients=2)
    module(c, lambda nn: nn.Upsample(7, mode="linear", align_corners=True), c.f64(1, 2, 3))
    module(
        c,
        lambda nn: nn.Upsample(scale_factor=(1.5, 2, 0.5), mode="trilinear"),
        c.f64(1, 2, 3, 2, 4),
    )
    module(
        c,
        lambda nn: nn.Upsample(scale_factor=1.7, mode="bicubic", recompute_scale_factor=True),
        c.f64(1, 2, 3, 4),
    )
    keys = ("name", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    c(lambda m: [getattr(m.nn.Upsample(scale_factor=3), key) for key in keys])
    c.error(lambda m, x: m.nn.Upsample()(x), c.f32(1, 2, 3, 4))
    c.error(lambda m, x: m.nn.Upsample(3, align_corners=True)(x), c.f32(1, 2, 3, 4))


@case("torch.nn.UpsamplingNearest2d", "torch.nn.UpsamplingBilinear2d")
def upsampling(c, name):
    module(c, lambda nn: getattr(nn, name)(scale_factor=2), c.f64(1, 2, 3, 4), gradients=2)
    module(c, lambda nn: getattr(nn, name)((5, 3)), c.f64(1, 2, 3, 4))
    module(c, lambda nn: getattr(nn, name)(size=4), c.f32(1, 2, 3, 4), dtype=None, atol=1e-5)
    c.error(lambda m, x: getattr(m.nn, name)()(x), c.f32(1, 2, 3, 4))


# Grids --------------------------------------------------------------------------------------------


@case("torch.nn.functional.grid_sample")
def grid_sample(c):
    f = "grid_sample"
    for rank, modes in ((2, ("bilinear", "nearest", "bicubic")), (3, ("bilinear", "nearest"))):
        x = c.f64(2, 3, *[4, 5, 3][:rank])
        grid = c.f64(2, *[3, 2, 2][:rank], rank, low=-1.7, high=1.7)
        edges = c.exactly(
            c.generator.integers(-3, 4, (2, *[3, 2, 2][:rank], rank)) / 2.0
        )  # on elements and at the edges
        for mode in modes:
            for padding in ("zeros", "border", "reflection"):
                for aligned in (True, False):
                    c(functional(f, mode, padding, aligned), x, grid)
                    c(functional(f, mode, padding, aligned), x, edges)
    for mode in ("bilinear", "nearest", "bicubic"):
        c(functional(f, mode, align_corners=False), c.f32(1, 2, 3, 4), c.f32(1, 5, 2, 2, low=-1.3),
          atol=1e-5)  # fmt: skip
        for padding in ("zeros", "border", "reflection"):
            c(functional(f, mode, padding, align_corners=False), c.f64(1, 2, 3, 4),
              c.exactly([[[[np.nan, 0.2], [0.1, np.nan]]]]).constant(), gradients=0)  # fmt: skip
    c(functional(f), c.f64(1, 2, 3, 4), c.f64(1, 0, 2, 2))
    c(functional(f), c.f64(0, 2, 3, 4), c.f64(0, 3, 2, 2))
    c(functional(f), c.f64(1, 2, 1, 1), c.f64(1, 3, 2, 2))


@case("torch.nn.functional.grid_sample")
def grid_sample_refusals(c):
    f, x, grid = "grid_sample", c.f32(2, 3, 4, 5), c.f32(2, 3, 2, 2)
    c.error(functional(f, "linear"), x, grid)
    c.error(functional(f, "bilinear", "wrap"), x, grid)
    c.error(functional(f), x, c.f64(2, 3, 2, 2))
    c.error(functional(f), x, c.f32(1, 3, 2, 2))
    c.error(functional(f), x, c.f32(2, 3, 2, 3))
    c.error(functional(f), x, c.f32(2, 3, 2))
    c.error(functional(f), c.f32(2, 3, 4), c.f32(2, 3, 1))
    c.error(functional(f), c.f32(2, 3, 0, 5), grid)
    c.error(functional(f), c.i64(2, 3, 4, 5), c.i64(2, 3, 2, 2))
    c.error(functional(f, "bicubic"), c.f32(2, 3, 4, 5, 2), c.f32(2, 3, 2, 2, 3))


@case("torch.nn.functional.affine_grid")
def affine_grid(c):
    f = "affine_grid"
    for aligned in (True, False, None):
        c(functional(f, (2, 3, 4, 5), aligned), c.f64(2, 2, 3), gradients=1)
        c(functional(f, (2, 3, 2, 4, 5), aligned), c.f64(2, 3, 4), gradients=1)
    c(functional(f, [1, 1, 1, 3], True), c.f64(1, 2, 3))
    c(lambda m, x: m.nn.functional.affine_grid(theta=x, size=m.Size((1, 2, 3, 3))), c.f32(1, 2, 3))
    c.error(functional(f, (2, 3, 4, 5)), c.f32(2, 3, 4))
    c.error(functional(f, (2, 3, 4)), c.f32(2, 2, 3))
    c.error(functional(f, (2, 3, 0, 5)), c.f32(2, 2, 3))
    c.error(functional(f, (2, 3, 4, 5)), c.i64(2, 2, 3))
    c.error(functional(f, (3, 3, 4, 5)), c.f32(2, 2, 3))
