from compare_cases import case


@case("torch.add")
def add(c):
    c(lambda m, x, y: m.add(x, y), c.f64(3, 1), c.f64(4).seen("strided"), gradients=2)
    c(lambda m, x, y: m.add(x, y, alpha=2), c.i64(3, 4).seen("transposed"), c.i64())
    c(lambda m, x, y: m.add(input=x, other=y), c.f32(0, 4), c.f32(1, 4))
    c(lambda m, x, y: m.add(x, y, out=y), c.f32(3), c.f32(3))
    c(lambda m, x: m.max(x, 0), c.f32(3, 4))
    c.error(lambda m, x, y: m.add(x, y), c.f32(3), c.f32(4))
    c.pairs(lambda m, x, y: m.add(x, y))


@case("torch.bernoulli")
def bern(c):
    c.random(lambda m, x: m.bernoulli(x), c.f32(4000, low=0.2, high=0.4))
