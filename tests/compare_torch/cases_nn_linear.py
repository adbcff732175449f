"""Cases of linear layers."""

from compare_cases import case
from compare_modules import module


@case("torch.nn.Linear")
def linear(c):
    module(c, lambda nn: nn.Linear(4, 3), c.f64(2, 4), gradients=2)
    module(c, lambda nn: nn.Linear(4, 3, bias=False), c.f64(4))
    module(c, lambda nn: nn.Linear(4, 3), c.f64(2, 0, 4))
    module(c, lambda nn: nn.Linear(4, 3), c.f32(2, 3, 4), dtype="float32")
    module(c, lambda nn: nn.Linear(0, 3), c.f64(2, 0))
    c.error(lambda m, x: m.nn.Linear(4, 3)(x), c.f32(2, 5))
    c.error(lambda m, x: m.nn.Linear(4, 3)(x), c.f64(2, 4))
    c.error(lambda m: m.nn.Linear(-1, 3))


@case("torch.nn.Bilinear")
def bilinear(c):
    module(c, lambda nn: nn.Bilinear(4, 3, 2), c.f64(5, 4), c.f64(5, 3))
    module(c, lambda nn: nn.Bilinear(4, 3, 2, bias=False), c.f64(2, 5, 4), c.f64(2, 5, 3))
    c.error(lambda m, x, y: m.nn.Bilinear(4, 3, 2)(x, y), c.f32(5, 4), c.f32(5, 4))
    c.error(lambda m: m.nn.Bilinear(0, 3, 2))


@case("torch.nn.functional.linear")
def functional_linear(c):
    f = c.f64(3, 4)
    c(lambda m, x, w: m.nn.functional.linear(x, w), c.f64(2, 4), f, gradients=2)
    c(lambda m, x, w, b: m.nn.functional.linear(x, w, bias=b), c.f64(2, 5, 4), f, c.f64(3))
    c(lambda m, x, w: m.nn.functional.linear(x, w), c.f64(2, 4), c.f64(4))
    c.error(lambda m, x, w: m.nn.functional.linear(x, w), c.f64(2, 3), f)


@case("torch.nn.functional.bilinear")
def functional_bilinear(c):
    x, y, w = c.f64(5, 4), c.f64(5, 3), c.f64(2, 4, 3)
    c(lambda m, x, y, w: m.nn.functional.bilinear(x, y, w), x, y, w, gradients=2)
    c(lambda m, x, y, w, b: m.nn.functional.bilinear(x, y, w, b), x, y, w, c.f64(2))
    c.error(lambda m, x, y, w: m.nn.functional.bilinear(x, y, w), y, x, w)
