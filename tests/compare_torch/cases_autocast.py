"""Cases of mixed precision: which dtype each function computes in, gradients, the scaler."""

import warnings

import numpy as np
from compare_cases import FLOATS, case

# Functions of two 4x4 tensors.
LOWER = {
    "@": lambda m, x, y: x @ y,
    "mm": lambda m, x, y: m.mm(x, y),
    "bmm": lambda m, x, y: m.bmm(x[None], y[None]),
    "addmm": lambda m, x, y: m.addmm(x, y, y, beta=0.5),
    "Tensor.addmm": lambda m, x, y: x.addmm(y, y),
    "addbmm": lambda m, x, y: m.addbmm(x, y[None], y[None]),
    "baddbmm": lambda m, x, y: m.baddbmm(x[None], y[None], y[None]),
    "einsum": lambda m, x, y: m.einsum("ij,jk", x, y),
    "chain_matmul": lambda m, x, y: m.chain_matmul(x, y, x),
    "matrix_power": lambda m, x, y: m.matrix_power(x, 3),
    "linear": lambda m, x, y: m.nn.functional.linear(x, y, x[0]),
    "conv2d": lambda m, x, y: m.nn.functional.conv2d(x[None, None], y[None, None]),
    "conv1d": lambda m, x, y: m.nn.functional.conv1d(x[None], y[None], x[0, :1]),
    "conv_transpose1d": lambda m, x, y: m.nn.functional.conv_transpose1d(x[None], y[:, None]),
    "prelu": lambda m, x, y: m.nn.functional.prelu(x - 1, y[0, :1]),
    "vecdot": lambda m, x, y: m.linalg.vecdot(x, y),
    "tensordot": lambda m, x, y: m.tensordot(x, y, 1),
}
UNCHANGED = {
    "+": lambda m, x, y: x + y,
    "*": lambda m, x, y: x * y,
    "exp": lambda m, x, y: m.exp(x),
    "pow": lambda m, x, y: x**2,
    "softmax": lambda m, x, y: x.softmax(-1),
    "log_softmax": lambda m, x, y: m.nn.functional.log_softmax(x, -1),
    "sum": lambda m, x, y: x.sum(),
    "mean": lambda m, x, y: x.mean(0),
    "norm": lambda m, x, y: x.norm(),
    "mv": lambda m, x, y: m.mv(x, y[0]),
    "dot": lambda m, x, y: m.dot(x[0], y[0]),
    "outer": lambda m, x, y: m.outer(x[0], y[0]),
    "einsum product": lambda m, x, y: m.einsum("ij,ij->ij", x, y),
    "cumsum": lambda m, x, y: x.cumsum(0),
    "layer_norm": lambda m, x, y: m.nn.functional.layer_norm(x, (4,), y[0], y[1]),
    "max_pool2d": lambda m, x, y: m.nn.functional.max_pool2d(x[None], 2),
    "avg_pool2d": lambda m, x, y: m.nn.functional.avg_pool2d(x[None], 2),
    "gelu": lambda m, x, y: m.nn.functional.gelu(x),
    "constant pad": lambda m, x, y: m.nn.functional.pad(x, (1, 1)),
    "cat": lambda m, x, y: m.cat([x, y]),
    "stack": lambda m, x, y: m.stack([x, y]),
}
IN_F32 = {
    "prod": lambda m, x, y: x.prod(0),
    "trace": lambda m, x, y: x.trace(),
    "quantile": lambda m, x, y: m.quantile(x, 0.3),
    "cdist": lambda m, x, y: m.cdist(x, y),
    "inverse": lambda m, x, y: m.inverse(x + 5 * m.eye(4, dtype=x.dtype)),
    "svdvals": lambda m, x, y: m.linalg.svd(x).S,
    "fft": lambda m, x, y: m.view_as_real(m.fft.fft(x)),
    "polar": lambda m, x, y: m.view_as_real(m.polar(x, y)),
    "mse_loss": lambda m, x, y: m.nn.functional.mse_loss(x, y),
    "l1_loss": lambda m, x, y: m.nn.functional.l1_loss(x, y),
    "smooth_l1_loss": lambda m, x, y: m.nn.functional.smooth_l1_loss(x, y),
    "huber_loss": lambda m, x, y: m.nn.functional.huber_loss(x, y),
    "bce_with_logits": lambda m, x, y: m.nn.functional.binary_cross_entropy_with_logits(x, y),
    "cross_entropy": lambda m, x, y: m.nn.functional.cross_entropy(x, m.tensor([0, 1, 2, 3])),
    "soft cross_entropy": lambda m, x, y: m.nn.functional.cross_entropy(x, y),
    "nll_loss": lambda m, x, y: m.nn.functional.nll_loss(x, m.tensor([0, 1, 2, 3])),
    "kl_div": lambda m, x, y: m.nn.functional.kl_div(x, y),
    "poisson_nll_loss": lambda m, x, y: m.nn.functional.poisson_nll_loss(x, y),
    "triplet_margin_loss": lambda m, x, y: m.nn.functional.triplet_margin_loss(x, y, y + 1),
    "reflect": lambda m, x, y: m.nn.functional.pad(x, (1, 1), mode="reflect"),
    "replicate": lambda m, x, y: m.nn.functional.pad(x, (1, 1), mode="replicate"),
    "avg_pool3d": lambda m, x, y: m.nn.functional.avg_pool3d(x[None, None], (1, 2, 2)),
    "soft_margin_loss": lambda m, x, y: m.nn.functional.soft_margin_loss(x, y.sign()),
    "adaptive_max_pool3d": lambda m, x, y: m.nn.functional.adaptive_max_pool3d(
        x[None, None], (1, 2, 2)
    ),
    "grid_sample": lambda m, x, y: m.nn.functional.grid_sample(
        x[None, None], m.zeros(1, 2, 2, 2, dtype=x.dtype), align_corners=False
    ),
}
FUNCTIONS = LOWER | UNCHANGED | IN_F32


def under(function, dtype="bfloat16"):
    def call(m, *tensors):
        with m.autocast("cpu", getattr(m, dtype)):
            return function(m, *tensors)

    return call


@case("torch.autocast")
def autocast(c):
    near = {"rtol": 3e-2, "atol": 2e-2, "gradients": 0, "compiled": False}
    for name, function in FUNCTIONS.items():
        for dtype in FLOATS:
            if name in ("cat", "stack") and dtype == "float16":
                continue  # PyTorch refuses one 16-bit dtype where the other is chosen
            x, y = (c.of(dtype, 4, 4, low=0.2, high=1.5) for _ in range(2))
            c.either(under(function), x, y, **near)
        if name not in ("chain_matmul", "tensordot"):  # PyTorch checks before it casts
            mixed = c.of("float32", 4, 4, low=0.2), c.of("bfloat16", 4, 4, low=0.2)
            c.either(under(function), *mixed, **near)
    for function in LOWER.values():
        c(under(function, "float16"), *(c.f32(4, 4, low=0.2, high=1.5) for _ in range(2)), **near)

    def network(m):
        """bfloat16 through layers with float32 parameters, and float32 gradients of them."""
        rng = np.random.default_rng(1)
        net = m.nn.Sequential(
            m.nn.Linear(4, 6),
            m.nn.BatchNorm1d(6),
            m.nn.ReLU(),
            m.nn.LayerNorm(6),
            m.nn.Linear(6, 2),
        )
        with m.no_grad():
            for p in net.parameters():
                p.copy_(m.tensor(rng.normal(size=tuple(p.shape))).float())
        x = m.tensor(rng.normal(size=(8, 4))).float()
        with m.autocast("cpu"):
            hidden = net[:4](x)
            out = net[4](hidden)
            loss = m.nn.functional.cross_entropy(out, m.tensor([0, 1] * 4))
        loss.backward()
        return [hidden.dtype, out.detach(), loss.detach(), [p.grad for p in net.parameters()]]

    c(network, gradients=0, rtol=5e-2, atol=5e-2)


def nested(m, kind):
    seen = []
    x = m.ones(2, 2)

    @kind("cpu", dtype=m.float16)
    def decorated():
        return (x @ x).dtype

    with kind("cpu"):
        seen += [(x @ x).dtype, m.is_autocast_enabled("cpu"), m.get_autocast_dtype("cpu")]
        with kind("cpu", enabled=False):
            seen += [(x @ x).dtype, m.is_autocast_enabled("cpu")]
        with kind("cpu", m.float16, cache_enabled=False):
            seen += [(x @ x).dtype, m.is_autocast_cache_enabled()]
        seen += [(x @ x).dtype, decorated()]
    seen += [(x @ x).dtype, decorated(), m.is_autocast_enabled("cpu"), m.get_autocast_dtype("cpu")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with kind("cpu", m.float64):
            seen.append((x @ x).dtype)
        with kind("cuda"):
            seen.append((x @ x).dtype)
    return [*seen, [w.category.__name__ for w in told]]


@case("torch.amp.autocast")
def amp_autocast(c):
    c(lambda m: nested(m, m.amp.autocast), gradients=0, compiled=False)
    c(lambda m: nested(m, m.autocast), gradients=0, compiled=False)
    c.error(lambda m: m.autocast(3))
    c.error(lambda m: m.autocast("nowhere"))
    c.error(lambda m: m.autocast())
    c.error(lambda m: m.autocast("cpu")(3))


@case("torch.cuda.amp.autocast")
def cuda_autocast(c):
    def function(m):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with m.cuda.amp.autocast():
                return m.ones(2, 2) @ m.ones(2, 2)

    c(function, gradients=0)


def custom(m, cast, device="cpu"):
    """A function with a gradient of its own, inside and outside."""

    class Product(m.autograd.Function):
        @staticmethod
        @m.amp.custom_fwd(device_type=device, cast_inputs=m.float32 if cast else None)
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x @ y

        @staticmethod
        @m.amp.custom_bwd(device_type=device)
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            seen.append((g @ y.t()).dtype)
            return g @ y.t(), x.t() @ g

    seen = []
    x = m.ones(2, 2, requires_grad=True)
    y = m.ones(2, 2).bfloat16() if cast else m.ones(2, 2)
    with m.autocast(device):
        out = Product.apply(x, y)
    out.float().sum().backward()
    plain = Product.apply(x, y.float())
    plain.sum().backward()
    return [out.dtype, plain.dtype, seen, x.grad]


@case("torch.amp.custom_fwd", "torch.amp.custom_bwd")
def custom_functions(c, name):
    for cast in (False, True):
        c(lambda m, cast=cast: custom(m, cast), gradients=0, compiled=False)
    c.error(lambda m: getattr(m.amp, name)(device_type=3))
    c.error(lambda m: getattr(m.amp, name)(lambda ctx: None))


@case("torch.cuda.amp.custom_fwd", "torch.cuda.amp.custom_bwd")
def cuda_custom_functions(c, name):
    def function(m):
        class Double(m.autograd.Function):
            @staticmethod
            @m.cuda.amp.custom_fwd
            def forward(ctx, x):
                return x * 2

            @staticmethod
            @m.cuda.amp.custom_bwd
            def backward(ctx, g):
                return g * 2

        x = m.ones(2, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Double.apply(x).sum().backward()
        return x.grad

    c(function, gradients=0, compiled=False)


@case("torch.amp.is_autocast_available")
def available(c):
    for name in ("cpu", "cuda"):
        c(lambda m, name=name: m.amp.is_autocast_available(name), gradients=0)
    c.error(lambda m: m.amp.is_autocast_available(3))


# Settings -----------------------------------------------------------------------------------------


def restored(m, function):
    enabled, dtype = m.is_autocast_enabled("cpu"), m.get_autocast_dtype("cpu")
    gpu, cache = m.get_autocast_dtype("cuda"), m.is_autocast_cache_enabled()
    try:
        return function(m)
    finally:
        m.set_autocast_enabled("cpu", enabled)
        m.set_autocast_enabled("cuda", False)
        m.set_autocast_dtype("cpu", dtype)
        m.set_autocast_dtype("cuda", gpu)
        m.set_autocast_cache_enabled(cache)


@case(
    "torch.set_autocast_enabled",
    "torch.is_autocast_enabled",
    "torch.set_autocast_cpu_enabled",
    "torch.is_autocast_cpu_enabled",
)
def switches(c, name):
    def function(m):
        x = m.ones(2, 2)
        seen = [m.is_autocast_enabled("cpu"), m.is_autocast_enabled()]
        m.set_autocast_enabled("cpu", True)
        seen += [(x @ x).dtype, m.is_autocast_enabled("cpu"), m.is_autocast_enabled()]
        m.set_autocast_cpu_enabled(False)
        seen += [(x @ x).dtype, m.is_autocast_cpu_enabled()]
        m.set_autocast_enabled(True)
        return [*seen, m.is_autocast_enabled("cuda"), m.is_autocast_enabled()]

    c(lambda m: restored(m, function), gradients=0, compiled=False)
    c.error(lambda m: m.is_autocast_enabled("nowhere"))


@case(
    "torch.get_autocast_dtype",
    "torch.set_autocast_dtype",
    "torch.get_autocast_cpu_dtype",
    "torch.set_autocast_cpu_dtype",
    "torch.get_autocast_gpu_dtype",
    "torch.set_autocast_gpu_dtype",
)
def dtypes(c, name):
    def function(m):
        seen = [m.get_autocast_dtype("cpu"), m.get_autocast_dtype("cuda")]
        m.set_autocast_dtype("cpu", m.float16)
        m.set_autocast_gpu_dtype(m.bfloat16)
        seen += [m.get_autocast_cpu_dtype(), m.get_autocast_gpu_dtype()]
        with m.autocast("cpu"):
            seen.append((m.ones(2, 2) @ m.ones(2, 2)).dtype)
        m.set_autocast_cpu_dtype(m.bfloat16)
        return [*seen, m.get_autocast_dtype("cpu")]

    c(lambda m: restored(m, function), gradients=0, compiled=False)


@case(
    "torch.is_autocast_cache_enabled",
    "torch.set_autocast_cache_enabled",
    "torch.clear_autocast_cache",
    "torch.autocast_increment_nesting",
    "torch.autocast_decrement_nesting",
)
def caching(c, name):
    def function(m):
        seen = [m.is_autocast_cache_enabled()]
        m.set_autocast_cache_enabled(False)
        seen += [m.is_autocast_cache_enabled(), m.autocast_increment_nesting()]
        with m.autocast("cpu"):
            seen.append(m.autocast_increment_nesting())
            seen.append(m.autocast_decrement_nesting())
        return [*seen, m.autocast_decrement_nesting(), m.clear_autocast_cache()]

    c(lambda m: restored(m, function), gradients=0, compiled=False)


# The scaler ---------------------------------------------------------------------------------------

STEPS = 12


def scaled(m, name, settings, bad=(3, 4, 9), unscale=(1, 4), several=False, **given):
    """Steps of which some overflow: parameters, scale, counter and state."""
    rng = np.random.default_rng(0)
    ps = [m.nn.Parameter(m.tensor(rng.normal(size=(4, 3)))) for _ in range(2)]
    kind = getattr(m.optim, name)
    optimizers = [kind([p], **settings) for p in ps] if several else [kind(ps, **settings)]
    scaler = m.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3, **given)
    seen = []
    for i in range(STEPS):
        x = m.tensor(rng.normal(size=(5, 4)))
        losses = []
        for j, p in enumerate(ps):
            loss = ((x @ p) ** 2).mean()
            losses.append(loss * float("inf") if i in bad and j == 0 else loss)
        for optimizer in optimizers:
            optimizer.zero_grad()
        sum(scaler.scale(losses)).backward()
        for optimizer in optimizers:
            if i in unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
        scaler.update()
        seen += [*(p.detach().clone() for p in ps), scaler.get_scale(), len(optimizers[0].state)]
    states = [dict(entry) for o in optimizers for entry in o.state_dict()["state"].values()]
    return [seen, scaler.state_dict(), states]


@case("torch.amp.GradScaler")
def grad_scaler(c):
    options = {"gradients": 0, "compiled": False}
    for name, settings in (
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
        ("Adam", {"lr": 0.1, "amsgrad": True}),
        ("NAdam", {"lr": 0.1}),
        ("RMSprop", {"lr": 0.1, "centered": True}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
        ("Rprop", {}),
    ):
        c(lambda m, n=name, s=settings: scaled(m, n, s), **options)
    c(lambda m: scaled(m, "Adam", {"lr": 0.1}, several=True), **options)
    c(lambda m: scaled(m, "SGD", {"lr": 0.1}, bad=(0,), growth_factor=4.0), **options)
    c(lambda m: scaled(m, "Adam", {"lr": 0.1}, bad=(), enabled=False), **options)
    c(settings_of, **options)
    c(outputs, **options)
    c.error(lambda m: m.amp.GradScaler("cpu", growth_factor=1.0))
    c.error(lambda m: m.amp.GradScaler("cpu", backoff_factor=1.0))
    for wrong in (
        lambda s, o: s.step(o),
        lambda s, o: s.update(),
        lambda s, o: s.unscale_(o),
        lambda s, o: (s.scale(o.loss), s.update()),
        lambda s, o: (s.scale(o.loss), s.step(o)),
        lambda s, o: (s.scale(o.loss).backward(), s.unscale_(o), s.unscale_(o)),
        lambda s, o: (s.scale(o.loss).backward(), s.step(o), s.step(o)),
        lambda s, o: (s.scale(o.loss).backward(), s.step(o), s.unscale_(o)),
        lambda s, o: (s.scale(o.loss).backward(), s.step(o, closure=lambda: 1)),
        lambda s, o: s.scale(3),
        lambda s, o: s.load_state_dict({}),
    ):
        c.error(lambda m, wrong=wrong: wrong(m.amp.GradScaler("cpu"), prepared(m)))

    def half(m):
        optimizer = prepared(m, m.float16)
        scaler = m.amp.GradScaler("cpu")
        scaler.scale(optimizer.loss).backward()
        scaler.step(optimizer)

    c.error(half)


def prepared(m, dtype=None):
    p = m.nn.Parameter(m.ones(2, dtype=dtype or m.float32))
    optimizer = m.optim.SGD([p], lr=0.1)
    optimizer.loss = (p * p).sum()
    return optimizer


def settings_of(m):
    scaler = m.amp.GradScaler("cpu", init_scale=8.0)
    seen = [scaler.is_enabled(), scaler.get_scale(), scaler.state_dict()]
    scaler.set_growth_factor(3.0)
    scaler.set_backoff_factor(0.25)
    scaler.set_growth_interval(1)
    optimizer = prepared(m)
    scaler.scale(optimizer.loss).backward()
    scaler.step(optimizer)
    scaler.update()
    seen += [scaler.get_scale(), scaler.get_growth_factor(), scaler.get_backoff_factor()]
    scaler.update(16.0)
    seen += [scaler.get_scale()]
    scaler.update(m.tensor(4.0))
    seen += [scaler.get_scale(), scaler.get_growth_interval()]
    other = m.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    seen += [other.get_scale(), other.state_dict()]
    off = m.amp.GradScaler("cpu", enabled=False)
    return [*seen, off.get_scale(), off.state_dict(), off.is_enabled()]


def outputs(m):
    scaler = m.amp.GradScaler("cpu", init_scale=8.0)
    x = m.ones(2, dtype=m.float64)
    return [scaler.scale(x), scaler.scale([x, (x, x.float())]), scaler.scale(x.half())]


@case("torch.cuda.amp.GradScaler")
def cuda_scaler(c):
    def function(m):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scaler = m.cuda.amp.GradScaler()
        x = m.ones(2)
        return [scaler.is_enabled(), scaler.get_scale(), scaler.scale(x)]

    c(function, gradients=0)
