"""Cases of the functions of layers that PyTorch has at its top level, under "Long tail"."""

from compare_cases import case


def call(name, *arguments, **named):
    return lambda m, *x: getattr(m, name)(*x, *arguments, **named)


# Activations --------------------------------------------------------------------------------------


@case("torch.relu", "torch.selu", "torch.celu", "torch.hardshrink")
def activations(c, name):
    f = call(name)
    c(f, c.f64(3, 4), gradients=2)
    c(f, c.f32(3, 4).seen("transposed"))
    c(f, c.special("float32"))
    c(f, c.f32())
    c(f, c.f32(0, 2))
    c(f, c.exactly([-0.5, 0.0, 0.5]))
    c.dtypes(f, (4,))
    c.error(lambda m: f(m, 2.0))
    if name == "celu":
        c(call("celu", 0.5), c.f64(3, 4), gradients=2)
        c(lambda m, x: m.celu(input=x, alpha=2), c.f32(4))
    if name == "hardshrink":
        c(call("hardshrink", 1.5), c.f64(3, 4))
        c(lambda m, x: m.hardshrink(input=x, lambd=0.1), c.f32(4))


@case("torch.relu_", "torch.selu_", "torch.celu_", "torch.threshold_")
def activations_in_place(c, name):
    more = (0.5, -2.0) if name == "threshold_" else ()
    c(call(name, *more), c.f32(3, 4).seen("strided"))
    c(lambda m, x: getattr(m, name)(x * 1, *more), c.f64(3, 4), gradients=2)
    c(lambda m, x: (getattr(m, name)(x[0], *more), x), c.f32(2, 3))
    c.dtypes(call(name, *more), (4,), gradients=0)
    c.error(call(name, *more), c.f64(3))


@case("torch.threshold")
def threshold(c):
    c(call("threshold", 0.5, -2.0), c.f64(3, 4), gradients=2)
    c(lambda m, x: m.threshold(input=x, threshold=1, value=7), c.i64(6).seen("strided"))
    c.dtypes(call("threshold", 1, 5), (4,))
    c.error(call("threshold", 1), c.f32(3))


@case("torch.prelu")
def prelu(c):
    c(call("prelu"), c.f64(2, 3, 4), c.f64(3), gradients=2)
    c(call("prelu"), c.f64(2, 3).seen("transposed"), c.f64(1))
    c(lambda m, x, w: m.prelu(input=x, weight=w), c.f32(4), c.f32(1))
    c(call("prelu"), c.f32(3), c.f32())
    c.error(call("prelu"), c.f32(2, 3), c.f32(2))
    c.error(call("prelu"), c.f32(2, 3), c.f64(3))


@case("torch.softmax", "torch.log_softmax")
def softmax(c, name):
    c(call(name, 1), c.f64(3, 4), gradients=2)
    c(call(name, -2), c.f64(3, 4).seen("transposed"))
    c(call(name, dim=0), c.f32(3))
    c(call(name, 0), c.f32())
    c(call(name, 1), c.f32(3, 0))
    c(lambda m, x: getattr(m, name)(x, 0, dtype=m.float64), c.f32(3))
    c(lambda m, x: getattr(m, name)(input=x, dim=0, dtype=m.float32), c.i64(3))
    c(call(name, 0), c.exactly([1000.0, 0.0, -1000.0]))
    c(call(name, 0), c.exactly([-float("inf"), 0.0]), gradients=0)
    c.dtypes(call(name, 0), (4,))
    c.error(call(name, 2), c.f32(3, 4))
    c.error(call(name), c.f32(3, 4))


# Convolutions -------------------------------------------------------------------------------------


@case("torch.conv1d", "torch.conv2d", "torch.conv3d")
def convolution(c, name):
    n = int(name[4])
    x, w = c.f64(2, 4, *[6, 5, 4][:n]), c.f64(4, 2, *[3, 2, 2][:n])
    full = c.f64(3, 4, *[3, 2, 2][:n])
    c(call(name), x, full, gradients=2)
    c(lambda m, x, w, b: getattr(m, name)(x, w, b, 2, 1), x, full, c.f64(3))
    c(call(name, padding=1, dilation=2, groups=1), x.to("float32"), full.to("float32"), atol=1e-5)
    c(call(name, None, (2,) * n, (1,) * n, 1, 2), x, w)
    c(call(name), c.f32(4, *[6, 5, 4][:n]), full.to("float32"), atol=1e-5)
    c(call(name, padding="same"), x, full, compiled=False)
    c.error(call(name, padding="same", stride=2), x, full)
    c(call(name, padding="valid"), x, full, compiled=False)
    c.error(call(name), c.f32(2, 5, *[6, 5, 4][:n]), full.to("float32"))
    c.error(call(name), c.f32(2, 4, *[2, 5, 4][:n]), full.to("float32"))
    c.error(call(name), x.constant(), full.to("float32"))
    c.error(call(name), c.f32(3), full.to("float32"))
    c.error(call(name, None, 0), x, full)
    c.error(call(name, padding=-1), x, full)
    c.error(call(name, padding="other"), x, full)
    c.error(call(name, groups=3), x, full)
    c.error(lambda m, x, w, b: getattr(m, name)(x, w, b), x, full, c.f64(4))


@case("torch.conv_transpose1d", "torch.conv_transpose2d", "torch.conv_transpose3d")
def transposed(c, name):
    n = int(name[-2])
    x, w = c.f64(2, 4, *[4, 3, 3][:n]), c.f64(4, 2, *[3, 2, 2][:n])
    c(call(name), x, w, gradients=2)
    c(lambda m, x, w, b: getattr(m, name)(x, w, b, 2, 1, 1), x, w, c.f64(2))
    c(call(name, groups=2, dilation=2), x, w)
    c(call(name, stride=2, padding=1), x.to("float32"), w.to("float32"), atol=1e-5)
    c.error(call(name), c.f32(2, 3, *[4, 3, 3][:n]), w.to("float32"))
    c.error(call(name, output_padding=3), x, w)
    c.error(call(name, padding=-1), x, w)


@case("torch.convolution")
def any_convolution(c):
    x, w = c.f64(2, 4, 6, 5), c.f64(4, 2, 3, 2)
    c(call("convolution", None, (2, 1), (1, 0), (1, 1), False, (0, 0), 2), x, w)
    c(call("convolution", None, (2, 1), (1, 0), (1, 1), True, (1, 0), 2), x, w)
    c(call("convolution", None, (1,), (0,), (1,), False, (0,), 1), c.f64(2, 3, 5), c.f64(2, 3, 2))


@case("torch.conv_tbc")
def conv_tbc(c):
    c(lambda m, x, w, b: m.conv_tbc(x, w, b), c.f64(5, 2, 3), c.f64(2, 3, 4), c.f64(4))
    c(lambda m, x, w, b: m.conv_tbc(x, w, b, 1), c.f64(5, 2, 3), c.f64(2, 3, 4), c.f64(4))
    c(lambda m, x, w, b: m.conv_tbc(input=x, weight=w, bias=b, pad=1),
      *(c.f32(5, 2, 3), c.f32(3, 3, 4), c.f32(4)), atol=1e-5)  # fmt: skip
    c.error(lambda m, x, w, b: m.conv_tbc(x, w, b), c.f32(5, 2, 3), c.f32(2, 4, 4), c.f32(4))


@case("torch.constant_pad_nd")
def constant_pad(c):
    c(call("constant_pad_nd", (1, 2)), c.f64(2, 3), gradients=2)
    c(call("constant_pad_nd", (1, 0, 2, 1), 1.5), c.f64(2, 3).seen("transposed"))
    c(lambda m, x: m.constant_pad_nd(input=x, pad=[-1, 1], value=3), c.i64(4))
    c(call("constant_pad_nd", (0, 0)), c.f32(3))
    c.error(call("constant_pad_nd", (1,)), c.f32(3))
    c.error(call("constant_pad_nd", (1, 1, 1, 1)), c.f32(3))
    c.error(call("constant_pad_nd", (-2, -2)), c.f32(3))


# Pooling ------------------------------------------------------------------------------------------


@case("torch.max_pool1d", "torch.max_pool2d", "torch.max_pool3d")
def max_pool(c, name):
    n = int(name[8])
    x = c.distinct(2, 3, *[6, 5, 4][:n])
    c(call(name, 2), x, gradients=2)
    c(call(name, (3,) * n, 2, 1), x)
    c(call(name, 2, stride=1, dilation=2), x)
    c(call(name, 2, ceil_mode=True), x.to("float32"))
    c(call(name, kernel_size=2, stride=(2,) * n), c.distinct(3, *[6, 5, 4][:n]))
    c.error(call(name, 2, 2, 2), x)
    c.error(call(name, 9), x)
    c.error(call(name, 0), x)
    c.error(call(name, 2), c.f32(3))


@case("torch.max_pool1d_with_indices")
def max_pool_with_indices(c):
    c(call("max_pool1d_with_indices", 2), c.distinct(2, 3, 6))
    c(call("max_pool1d_with_indices", 3, 2, 1), c.distinct(2, 3, 6))
    c(call("max_pool1d_with_indices", 2, ceil_mode=True), c.distinct(3, 5))


@case("torch.avg_pool1d")
def avg_pool(c):
    c(call("avg_pool1d", 2), c.f64(2, 3, 6), gradients=2)
    c(call("avg_pool1d", 3, 2, 1), c.f64(2, 3, 6))
    c(call("avg_pool1d", (3,), (2,), (1,), True, False), c.f64(3, 6))
    c(lambda m, x: m.avg_pool1d(input=x, kernel_size=2, stride=1), c.f32(2, 3, 5))
    c.error(call("avg_pool1d", 2, 2, 2), c.f32(2, 3, 6))
    c.error(call("avg_pool1d", 9), c.f32(2, 3, 6))
    c.error(call("avg_pool1d", 2), c.f32(3))


@case("torch.adaptive_avg_pool1d", "torch.adaptive_max_pool1d")
def adaptive_pool(c, name):
    c(call(name, 3), c.distinct(2, 3, 7), gradients=2)
    c(call(name, (2,)), c.distinct(2, 3, 7))
    c(lambda m, x: getattr(m, name)(input=x, output_size=1), c.distinct(3, 5))
    c.error(call(name, 3), c.f32(3))
    c.error(call(name, -1), c.f32(2, 3, 7))


# Normalization ------------------------------------------------------------------------------------


@case("torch.batch_norm", "torch.instance_norm")
def batch_norm(c, name):
    def f(m, x, w, b, mean, var, training):
        return getattr(m, name)(x, w, b, mean, var, training, 0.1, 1e-5, False)

    x = c.f64(4, 3, 5)
    for training in (True, False):
        c(
            lambda m, x, w, b, mean, var, t=training: f(m, x, w, b, mean, var, t),
            *(x, c.f64(3), c.f64(3), c.f64(3).constant(), c.f64(3, low=0.5).constant()),
        )
    c(lambda m, x: f(m, x, None, None, None, None, True), x, gradients=2)
    c(lambda m, x: f(m, x, None, None, None, None, True), c.f32(4, 3, 2, 2), atol=1e-5)
    c.error(lambda m, x: f(m, x, None, None, None, None, False), x)
    c.error(lambda m, x, w: f(m, x, w, None, None, None, True), x, c.f64(4))


@case("torch.native_batch_norm")
def native_batch_norm(c):
    def f(m, x, w, b, mean, var, training=True):
        return m.native_batch_norm(x, w, b, mean, var, training, 0.1, 1e-5)

    weights = (c.f32(3), c.f32(3), c.f32(3), c.f32(3, low=0.5))
    c(f, c.f32(4, 3, 5), *weights, atol=1e-5)
    c(lambda m, *x: f(m, *x, False), c.f32(4, 3, 5), *weights, atol=1e-5)


@case("torch.layer_norm")
def layer_norm(c):
    c(call("layer_norm", (4,)), c.f64(3, 4), gradients=2)
    c(lambda m, x, w, b: m.layer_norm(x, (3, 4), w, b), c.f64(2, 3, 4), c.f64(3, 4), c.f64(3, 4))
    c(lambda m, x: m.layer_norm(input=x, normalized_shape=[4], eps=0.1), c.f32(3, 4), atol=1e-5)
    c.error(call("layer_norm", (3,)), c.f32(3, 4))
    c.error(call("layer_norm", ()), c.f32(3, 4))
    c.error(lambda m, x, w: m.layer_norm(x, (4,), w), c.f32(3, 4), c.f32(3))


@case("torch.group_norm")
def group_norm(c):
    c(call("group_norm", 2), c.f64(2, 4, 3), gradients=2)
    c(lambda m, x, w, b: m.group_norm(x, 2, w, b, 0.1), c.f64(2, 4, 3), c.f64(4), c.f64(4))
    c(lambda m, x: m.group_norm(input=x, num_groups=4), c.f32(2, 4, 3), atol=1e-5)
    c.error(call("group_norm", 3), c.f32(2, 4, 3))
    c.error(call("group_norm", 0), c.f32(2, 4, 3))
    c.error(lambda m, x, w: m.group_norm(x, 2, w), c.f32(2, 4, 3), c.f32(3))


# Linear, distances and embeddings -----------------------------------------------------------------


@case("torch.bilinear")
def bilinear(c):
    c(call("bilinear"), c.f64(2, 3), c.f64(2, 4), c.f64(5, 3, 4), gradients=2)
    c(call("bilinear"), c.f64(2, 3), c.f64(2, 4), c.f64(5, 3, 4), c.f64(5))
    c.error(call("bilinear"), c.f32(2, 3), c.f32(3, 4), c.f32(5, 3, 4))
    c.error(call("bilinear"), c.f32(2, 3), c.f32(2, 4), c.f32(5, 4, 3))


@case("torch.cosine_similarity")
def cosine_similarity(c):
    c(call("cosine_similarity"), c.f64(3, 4), c.f64(3, 4), gradients=2)
    c(call("cosine_similarity", 0, 1e-3), c.f64(3, 4), c.f64(3, 1))
    c(lambda m, x, y: m.cosine_similarity(x1=x, x2=y, dim=-1), c.f32(3, 4), c.f32(4))
    c.error(call("cosine_similarity"), c.f32(3, 4), c.f32(3, 5))
    c.error(call("cosine_similarity", 2), c.f32(3, 4), c.f32(3, 4))


@case("torch.pairwise_distance")
def pairwise_distance(c):
    c(call("pairwise_distance"), c.f64(3, 4), c.f64(3, 4), gradients=1)
    c(call("pairwise_distance", 1, 1e-3, True), c.f64(3, 4), c.f64(4))
    c(lambda m, x, y: m.pairwise_distance(x1=x, x2=y, p=3), c.f32(4), c.f32(4))
    c.error(call("pairwise_distance"), c.f32(3, 4), c.f32(3, 5))


@case("torch.pdist")
def pdist(c):
    for p in (2, 1, 3, float("inf"), 0):
        c(call("pdist", p), c.f64(4, 3), gradients=1)
    c(lambda m, x: m.pdist(input=x), c.f32(1, 3))
    c.error(call("pdist"), c.f32(3))
    c.error(call("pdist", -1), c.f32(3, 2))


@case("torch.embedding")
def embedding(c):
    index = c.exactly([[0, 2], [1, 2]])
    c(call("embedding"), c.f64(3, 4), index, gradients=2)
    c(call("embedding", 2), c.f64(3, 4), index)
    c(call("embedding", -1, True), c.f64(3, 4), index)
    c(lambda m, w, i: m.embedding(weight=w, indices=i), c.f32(3, 4), c.exactly(1))
    c(call("embedding"), c.f32(3, 4), c.exactly([1, 0], "int32"))
    c.error(call("embedding"), c.f32(3, 4), c.exactly([3]))
    c.error(call("embedding"), c.f32(3, 4), c.exactly([-1]))
    c.error(call("embedding"), c.f32(3), index)
    c.error(call("embedding"), c.f32(3, 4), c.f32(2))


@case("torch.embedding_bag")
def embedding_bag(c):
    index, offsets = c.exactly([0, 2, 1, 2, 0]), c.exactly([0, 2, 2])
    for mode in (0, 1, 2):
        c(lambda m, w, i, o, k=mode: m.embedding_bag(w, i, o, False, k)[0],
          c.distinct(3, 4), index, offsets)  # fmt: skip
    c(lambda m, w, i, o, s: m.embedding_bag(w, i, o, False, 0, False, s)[0],
      *(c.f64(3, 4), index, offsets, c.f64(5)))  # fmt: skip


@case("torch.embedding_renorm_")
def embedding_renorm(c):
    c(lambda m, w, i: m.embedding_renorm_(w, i, 1.0, 2.0), c.f32(4, 3), c.exactly([0, 2, 0]))
    c(lambda m, w, i: m.embedding_renorm_(w, i, 0.5, 1.0), c.f32(4, 3), c.exactly([1]))


@case("torch.pixel_shuffle")
def pixel_shuffle(c):
    c(call("pixel_shuffle", 2), c.f64(1, 8, 2, 3), gradients=2)
    c(lambda m, x: m.pixel_shuffle(input=x, upscale_factor=3), c.i64(9, 2, 2))
    c.error(call("pixel_shuffle", 2), c.f32(1, 6, 2, 3))
    c.error(call("pixel_shuffle", 0), c.f32(1, 4, 2, 3))
    c.error(call("pixel_shuffle", 2), c.f32(4, 2))


@case("torch.grid_sampler", "torch.grid_sampler_2d", "torch.grid_sampler_3d")
def grid_sampler(c, name):
    n = 3 if name.endswith("3d") else 2
    x = c.f64(2, 2, *[4, 3, 3][:n])
    grid = c.f64(2, *[2, 3, 2][:n], n, low=-1.2, high=1.2)
    for mode in (0, 1):
        for padding in (0, 1, 2):
            c(call(name, mode, padding, padding == 1), x, grid, gradients=1 - mode)


# Losses -------------------------------------------------------------------------------------------


def reduced(c, name, *inputs, arguments=(), gradients=1):
    for reduction in (0, 1, 2):
        c(lambda m, *x, r=reduction: getattr(m, name)(*x, *arguments, reduction=r), *inputs,
          gradients=gradients)  # fmt: skip


@case("torch.binary_cross_entropy_with_logits")
def binary_cross_entropy(c):
    name = "binary_cross_entropy_with_logits"
    target = c.of("float64", 3, 4, low=0, high=1).constant()
    reduced(c, name, c.f64(3, 4), target, gradients=2)
    c(call(name), c.f64(3, 4), target, c.f64(4, low=0).constant())
    c(call(name), c.f64(3, 4), target, c.f64(4, low=0).constant(), c.f64(4, low=1).constant())
    c.error(call(name), c.f32(3), c.f32(4, low=0, high=1))


@case("torch.kl_div")
def kl_div(c):
    reduced(c, "kl_div", c.f64(3, 4, high=0), c.f64(3, 4, low=0.1, high=1))
    c(call("kl_div", log_target=True), c.f64(3, 4), c.f64(3, 4))


@case("torch.cosine_embedding_loss")
def cosine_embedding_loss(c):
    signs = c.exactly([1.0, -1.0, 1.0]).constant()
    reduced(c, "cosine_embedding_loss", c.f64(3, 4), c.f64(3, 4), signs, arguments=(-0.5,))


@case("torch.hinge_embedding_loss")
def hinge_embedding_loss(c):
    signs = c.exactly([1.0, -1.0, -1.0]).constant()
    reduced(c, "hinge_embedding_loss", c.f64(3), signs, arguments=(2.0,))


@case("torch.margin_ranking_loss")
def margin_ranking_loss(c):
    signs = c.exactly([1.0, -1.0, -1.0]).constant()
    reduced(c, "margin_ranking_loss", c.f64(3), c.f64(3), signs, arguments=(0.5,))


@case("torch.triplet_margin_loss")
def triplet_margin_loss(c):
    reduced(c, "triplet_margin_loss", c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    c(call("triplet_margin_loss", 2.0, 1.0, 1e-6, True), c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))


@case("torch.ctc_loss")
def ctc_loss(c):
    lengths = (c.exactly([7, 6]), c.exactly([3, 2]))
    targets = c.exactly([[1, 2, 2], [3, 1, 0]])
    for reduction in (0, 1, 2):
        c(lambda m, x, *r, k=reduction: m.ctc_loss(m.log_softmax(x, 2), *r, 0, k),
          *(c.f64(7, 2, 4), targets, *lengths))  # fmt: skip
    c(lambda m, x, t: m.ctc_loss(m.log_softmax(x, 2), t, (7, 6), (3, 2)), c.f64(7, 2, 4), targets)


@case("torch.is_distributed")
def is_distributed(c):
    c(lambda m, x: m.is_distributed(x), c.f32(2))
