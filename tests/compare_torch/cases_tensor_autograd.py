"""Cases of torch.autograd, of the methods by which gradients are asked for and seen, and of views
and writes in place under it."""

from compare_cases import case


def _gathered(*leaves):
    return tuple(x.grad for x in leaves)


@case("Tensor.backward", "torch.autograd.backward")
def backward(c, name):
    def run(m, tensor, *arguments, **options):
        if name == "backward" and hasattr(tensor, "backward"):
            return tensor.backward(*arguments, **options)
        return m.autograd.backward(tensor, *arguments, **options)

    def f(change):
        def g(m, x):
            change(m, x)
            return x.grad

        return g

    options = {"gradients": 1, "compiled": True}
    c(f(lambda m, x: run(m, (x * x).sum())), c.f64(2, 3), **options)
    c(f(lambda m, x: run(m, x * x, m.ones(2, 3, dtype=m.float64))), c.f64(2, 3), **options)
    c(f(lambda m, x: run(m, (x * 2).sum(), retain_graph=True)), c.f64(2), **options)
    c(f(lambda m, x: [run(m, (x**3).sum()) for _ in range(2)]), c.f64(2))
    c(f(lambda m, x: run(m, x.sum().reshape(1, 1))), c.f64(2))

    def twice(m, x):
        y = (x * x).sum()
        run(m, y, retain_graph=True)
        run(m, y)
        return x.grad

    def again(m, x):
        y = (x * x).sum()
        run(m, y)
        run(m, y)

    def chosen(m, x, y):
        run(m, (x * y).sum(), inputs=[y])
        return _gathered(x, y)

    def created(m, x):
        run(m, (x**3).sum(), create_graph=True)
        (second,) = m.autograd.grad(x.grad.sum(), x)
        return x.grad.detach(), second

    c(twice, c.f64(2))
    c.error(again, c.f64(2))
    c(chosen, c.f64(2), c.f64(2))
    c(created, c.f64(3))
    c.error(lambda m, x: run(m, x * 2), c.f64(3))
    c.error(lambda m, x: run(m, (x * 2).sum()), c.f32(3))
    c.error(lambda m, x: run(m, x * 2, m.ones(2, dtype=m.float64)), c.f64(3))
    c.error(lambda m, x: run(m, (x * 2).sum(), inputs=[]), c.f64(3))
    c.error(lambda m, x: run(m, x * 2, 1.0), c.f64(3))
    if name == "backward":
        c(lambda m, x: (m.autograd.backward([x.sum(), (x * x).sum()]), x.grad)[1], c.f64(3))
        c(lambda m, x: (m.autograd.backward([x * 1, x.sum()], [m.ones(3).double(), None]),
                        x.grad)[1], c.f64(3))  # fmt: skip
        c.error(lambda m, x: m.autograd.backward(3.0), c.f64(3))


@case("torch.autograd.grad")
def grad(c):
    c(lambda m, x: m.autograd.grad((x * x).sum(), x), c.f64(3))
    c(lambda m, x: m.autograd.grad(x * x, x, x), c.f64(3))
    c(lambda m, x: m.autograd.grad(outputs=(x**3).sum(), inputs=[x], create_graph=True),
      c.f64(3), gradients=2)  # fmt: skip
    c(lambda m, x, y: m.autograd.grad(x.sum(), [x, y], allow_unused=True), c.f64(3), c.f64(3))
    c(lambda m, x, y: m.autograd.grad(x.sum(), [x, y], materialize_grads=True), c.f64(3), c.f64(2))
    c(lambda m, x: m.autograd.grad([x.sum(), (x * x).sum()], x), c.f64(3))
    c(lambda m, x: m.autograd.grad(x * x, x, m.eye(3).double(), is_grads_batched=True), c.f64(3))
    c(lambda m, x: (m.autograd.grad((x * x).sum(), x), x.grad)[1], c.f64(3))

    def inner(m, x):
        y = x * 2
        return m.autograd.grad((y * y).sum(), [y, x])

    c(inner, c.f64(3))
    c.error(lambda m, x, y: m.autograd.grad(x.sum(), y), c.f64(3), c.f64(3))
    c.error(lambda m, x, y: m.autograd.grad(x.sum(), y), c.f64(3), c.f32(3))
    c.error(lambda m, x: m.autograd.grad(x * 2, x), c.f64(3))
    c.error(lambda m, x: m.autograd.grad(x.sum(), ()), c.f64(3))
    c.error(lambda m, x: m.autograd.grad(x.sum(), 3), c.f64(3))
    c.error(lambda m, x: m.autograd.grad(x.sum(), x, m.ones(2).double()), c.f64(3))


@case("Tensor.register_hook")
def register_hook(c):
    def seen(m, x):
        order = []
        y = x * 2
        x.register_hook(lambda g: order.append("x"))
        y.register_hook(lambda g: order.append("y"))
        (y * x).sum().backward()
        return order, x.grad

    def changed(m, x):
        handle = x.register_hook(lambda g: g * 10)
        (x * 2).sum().backward()
        handle.remove()
        (x * 2).sum().backward()
        return x.grad

    def returning(what):
        def f(m, x):
            x.register_hook(lambda g: what(m))
            (x * 2).sum().backward()

        return f

    c(seen, c.f64(2))
    c(changed, c.f64(2))
    c(lambda m, x: (x.register_hook(lambda g: g + 1), m.autograd.grad((x * 3).sum(), x))[1],
      c.f64(2))  # fmt: skip
    c.error(returning(lambda m: 3), c.f64(2))
    c.error(returning(lambda m: m.ones(3, dtype=m.float64)), c.f64(2))
    c.error(lambda m, x: x.register_hook(lambda g: g), c.f32(2))


@case("Tensor.retain_grad")
def retain_grad(c):
    def kept(m, x):
        y = x * 2
        y.retain_grad()
        y.retain_grad()
        (y * y).sum().backward()
        return y.grad, y.retains_grad, x.retains_grad, x.grad

    c(kept, c.f64(3), compiled=True)
    c(lambda m, x: (x.retain_grad(), x.retains_grad), c.f64(2))
    c.error(lambda m, x: x.retain_grad(), c.f32(2))


@case("torch.autograd.no_grad", "torch.autograd.enable_grad", "torch.autograd.set_grad_enabled")
def modes(c, name):
    def within(m, x):
        make = getattr(m.autograd, name)
        with make(False) if name == "set_grad_enabled" else make():
            inside = (x * 2).requires_grad, m.is_grad_enabled()
        return inside, (x * 2).requires_grad

    def nested(m, x):
        with m.no_grad():
            make = getattr(m.autograd, name)
            with make(True) if name == "set_grad_enabled" else make():
                return (x * 2).requires_grad

    def decorated(m, x):
        make = getattr(m.autograd, name)

        @make(False) if name == "set_grad_enabled" else make()
        def double(x):
            return x * 2

        return double(x).requires_grad, (x * 2).requires_grad, double.__name__

    def raising(m, x):
        make = getattr(m.autograd, name)
        try:
            with make(False) if name == "set_grad_enabled" else make():
                raise ValueError
        except ValueError:
            return m.is_grad_enabled()

    for f in (within, nested, decorated, raising):
        c(f, c.f64(2), gradients=1)


@case("torch.autograd.detect_anomaly", "torch.autograd.set_detect_anomaly")
def anomalies(c, name):
    def checked(m, x, result):
        make = getattr(m.autograd, name)
        with make(True) if name == "set_detect_anomaly" else make():
            result(x).sum().backward()
        return x.grad

    c(lambda m, x: checked(m, x, lambda x: x * x), c.f64(2))
    c.error(lambda m, x: checked(m, x, lambda x: (x * 0).sqrt() * 0), c.f64(2))


@case("torch.autograd.gradcheck", "torch.autograd.gradgradcheck")
def gradcheck(c, name):
    def wrong(m):
        class Double(m.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, gradient):
                return gradient * ctx.saved_tensors[0] * 3

        return Double.apply

    f = lambda m: getattr(m.autograd, name)  # noqa: E731
    c(lambda m, x: f(m)(lambda x: x * x, (x,)), c.f64(3))
    c(lambda m, x, y: f(m)(lambda x, y: (x @ y).sin(), (x, y)), c.f64(2, 2), c.f64(2, 2))
    c(lambda m, x: f(m)(lambda x: x.exp(), x, eps=1e-6, atol=1e-4), c.f64(3))
    if name == "gradcheck":
        c(lambda m, x: m.autograd.gradcheck(wrong(m), (x,), raise_exception=False), c.f64(3))
        c.error(lambda m, x: m.autograd.gradcheck(wrong(m), (x,)), c.f64(3))
    c.error(lambda m, x: f(m)(lambda x: x * x, (x,)), c.f32(3))


@case("torch.autograd.Function", "torch.autograd.function.once_differentiable")
def functions(c, name):
    def made(m, once):
        def backward(ctx, gradient, other):
            x, y = ctx.saved_tensors
            used = ctx.needs_input_grad
            return (gradient * 2 * x * y if used[0] else None,
                    gradient * x * x if used[1] else None, None)  # fmt: skip

        class Product(m.autograd.Function):
            @staticmethod
            def forward(ctx, x, y, factor):
                ctx.save_for_backward(x, y)
                extra = x.detach() * factor
                ctx.mark_non_differentiable(extra)
                return x * x * y, extra

        rule = m.autograd.function.once_differentiable(backward) if once else backward
        Product.backward = staticmethod(rule)
        return Product.apply

    once = name == "once_differentiable"
    c(lambda m, x, y: made(m, once)(x, y, 3), c.f64(3), c.f64(3), gradients=1, compiled=True)
    c(lambda m, x, y: made(m, once)(x, y.detach(), 3), c.f64(3), c.f64(3), gradients=1)
    c(lambda m, x, y: made(m, once)(x.detach(), y.detach(), 3), c.f64(3), c.f64(3))
    if once:
        return
    c(lambda m, x, y: made(m, False)(x, y, 3), c.f64(3), c.f64(3), gradients=2)

    def dirty(m, x):
        class AddOne(m.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.mark_dirty(x)
                return x.add_(1)

            @staticmethod
            def backward(ctx, gradient):
                return gradient * 5

        y = x * 2
        z = AddOne.apply(y)
        return z is y, z

    def returning(what):
        def f(m, x):
            class Identity(m.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    return x * 1

                @staticmethod
                def backward(ctx, gradient):
                    return what(m, gradient)

            Identity.apply(x).sum().backward()
            return x.grad

        return f

    c(dirty, c.f64(3))
    c(returning(lambda m, g: None), c.f64(2))
    c(returning(lambda m, g: g.float()), c.f64(2))
    c.error(returning(lambda m, g: (g, g)), c.f64(2))
    c.error(returning(lambda m, g: g[:1].expand(5)), c.f64(2))
    c.error(returning(lambda m, g: 3), c.f64(2))


@case("torch.autograd.Variable")
def variable(c):
    c(lambda m, x: m.autograd.Variable(x.detach()), c.f64(2))
    c(lambda m, x: m.autograd.Variable(x.detach(), requires_grad=True), c.f64(2))
    c(lambda m, x: isinstance(x, m.autograd.Variable), c.f32(2))
    c(lambda m, x: m.autograd.Variable(x.detach(), requires_grad=True).is_leaf, c.f64(2))


@case("torch.autograd.profiler.profile")
def profile(c):
    def f(m, x):
        with m.autograd.profiler.profile() as recorded:
            (x * 2).sum().backward()
        return x.grad, len(recorded.key_averages()) > 0, isinstance(recorded.table(), str)

    c(f, c.f64(2))
    c(lambda m, x: [(x * 2).sum() for _ in [m.autograd.profiler.profile(enabled=False)]], c.f64(2))


@case("torch.autograd.profiler.emit_nvtx", "torch.autograd.profiler.load_nvprof")
def nvidia(c, name):
    """There is no GPU to profile."""

    def refused(m):
        try:
            if name == "emit_nvtx":
                m.autograd.profiler.emit_nvtx().__enter__()
            else:
                m.autograd.profiler.load_nvprof("nowhere/there.is")
        except Exception:
            return "refused"

    c(refused)
    c.error(lambda m: getattr(m.autograd.profiler, name)(1, 2, 3, 4, 5))


# Views and writes in place ------------------------------------------------------------------------


@case("a view shares storage", "writing through a view")
def views(c, name):
    def written(view):
        def f(m, x):
            part = view(x)
            part.mul_(2).add_(1)
            x[0] = -1
            return part, x

        return f

    for view in (
        lambda x: x.view(-1), lambda x: x[1:, ::2], lambda x: x.narrow(0, 1, 1),
        lambda x: x.select(1, 0), lambda x: x.t(), lambda x: x.transpose(0, 1)[1],
        lambda x: x.permute(1, 0), lambda x: x.unfold(1, 2, 2), lambda x: x.chunk(2)[1],
        lambda x: x.split(2, 1)[0], lambda x: x.as_strided((2, 2), (1, 2)),
        lambda x: x.unsqueeze(1).squeeze(), lambda x: x.diagonal(), lambda x: x.detach(),
        lambda x: x.data, lambda x: x.unbind()[1], lambda x: x.view(-1)[2:].reshape(-1, 2),
        lambda x: x.flatten(), lambda x: x.movedim(0, 1), lambda x: x.expand(1, 3, 4)[0],
    ):  # fmt: skip
        c(written(view), c.f32(3, 4), compiled=False)
        if name == "writing through a view":
            c.either(written(view), c.i64(3, 4).seen("transposed"))
    c(written(lambda x: x[1]), c.f32(3, 4).seen("strided"))


@case("gradients through views and in-place writes")
def gradients_in_place(c):
    for change in (
        lambda y, z: y[0].mul_(z[0]), lambda y, z: y.t()[1].add_(z[:, 1]),
        lambda y, z: y.view(-1)[::2].copy_(z.view(-1)[:3]), lambda y, z: y.zero_(),
        lambda y, z: y.masked_fill_(z > 0, 2.0), lambda y, z: y.mul_(z).tanh_(),
        lambda y, z: y.__setitem__(0, z[1]), lambda y, z: y.diagonal().copy_(z[0, :2]),
        lambda y, z: y.copy_(z), lambda y, z: y.narrow(1, 0, 2).exp_(),
        lambda y, z: y.unfold(1, 2, 1)[0, 0].mul_(3),
        lambda y, z: y[:, 1:].t().addcmul_(z[0, 0], z[1, 1]),
    ):  # fmt: skip

        def f(m, x, z, change=change):
            y = x * 2
            change(y, z)
            return y * y

        c(f, c.f64(2, 3), c.f64(2, 3), gradients=2)
    c.error(lambda m, x: x.mul_(2), c.f64(3))
    c.error(lambda m, x: x[0].mul_(2), c.f64(3))
    c.error(lambda m, x: x.view(-1).zero_(), c.f64(3))


@case("double backward")
def double_backward(c):
    for function in (
        lambda x, y: (x * y).sin() + x**3, lambda x, y: (x @ y.t()).tanh(),
        lambda x, y: x.exp() / (1 + y * y), lambda x, y: x.softmax(1) * y,
        lambda x, y: (x * y).cumsum(0) + x[0],
    ):  # fmt: skip
        c(lambda m, x, y, f=function: f(x, y), c.f64(2, 3), c.f64(2, 3), gradients=2)


@case("an overwritten saved value is refused")
def overwritten(c):
    def f(change, twice=True):
        def g(m, x):
            y = x * 2
            z = (y * y).sum()
            change(m, x, y)
            z.backward()
            return x.grad

        return g

    c.error(f(lambda m, x, y: y.mul_(2)), c.f64(3))
    c.error(f(lambda m, x, y: y[:1].zero_()), c.f64(3))
    c.error(f(lambda m, x, y: y.detach().add_(1)), c.f64(3))
    c(f(lambda m, x, y: y.data.add_(1)), c.f64(3))
    c(f(lambda m, x, y: (y + 1).add_(1)), c.f64(3))

    def result(m, x):
        y = x.exp()
        y.mul_(2)
        y.sum().backward()

    def unneeded(m, x):
        y = x + 1
        y.mul_(2)
        y.sum().backward()
        return x.grad

    def stepped(m, x):
        loss = (x * x).sum()
        with m.no_grad():
            x.sub_(1)
        loss.backward()

    c.error(result, c.f64(3))
    c(unneeded, c.f64(3))
    c.error(stepped, c.f64(3))
