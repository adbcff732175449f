"""Cases of the section "Serialization": each library reads what it wrote."""

import io

from compare_cases import DTYPES, case


def _again(m, value, **named):
    memory = io.BytesIO()
    m.save(value, memory)
    memory.seek(0)
    return m.load(memory, **named)


@case("torch.save", "torch.load")
def saving(c, name):
    for dtype in DTYPES:
        c(lambda m, x: _again(m, x.detach()), c.of(dtype, 2, 3), gradients=0)
    c(lambda m, x: _again(m, x), c.f32(2, 3).seen("transposed"))
    c(lambda m, x: _again(m, {"x": x, "steps": [1, 2.5, "a"], "y": (x, None)}), c.f32(2))
    c(lambda m, x: _again(m, x, map_location="cpu"), c.f32(2))
    c(lambda m: _again(m, m.ones(2, requires_grad=True)).requires_grad)
    c.error(lambda m: m.load("no such file"))
    c.error(lambda m: m.save(3))
