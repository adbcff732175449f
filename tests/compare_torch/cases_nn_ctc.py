"""Cases of connectionist temporal classification."""

from cases_nn_losses import KINDS
from compare_cases import case


def ctc(**options):
    """The loss of log-softmax(scores)."""

    def call(m, x, *rest):
        return m.nn.functional.ctc_loss(m.nn.functional.log_softmax(x, -1), *rest, **options)

    return call


def inputs(c, steps=7, count=3, classes=5):
    labels = [[1, 2, 2, 4], [3, 1, 1, 1], [4, 0, 0, 0]][:count]
    lengths = c.exactly([steps, steps - 1, steps - 3][:count])
    return c.f64(steps, count, classes), c.exactly(labels), lengths, c.exactly([4, 2, 1][:count])


@case("torch.nn.functional.ctc_loss")
def ctc_loss(c):
    x, y, n, k = inputs(c)
    for kind in KINDS:
        c(ctc(reduction=kind), x, y, n, k)
        c(ctc(reduction=kind), x, c.exactly([1, 2, 2, 4, 3, 1, 4]), n, k)
        c(ctc(reduction=kind, zero_infinity=True), x, y, c.exactly([4, 6, 1]), k)
        c(ctc(reduction=kind), c.f64(7, 5), c.exactly([1, 3]), c.exactly(7), c.exactly(2))
        c(ctc(reduction=kind), c.f64(7, 5), c.exactly([1, 3]), c.exactly([6]), c.exactly([2]))
        c(lambda m, x, y, kind=kind: ctc(reduction=kind)(m, x, y, (7, 6, 4), (4, 2, 1)), x, y)
        c(lambda m, x, y, kind=kind: ctc(reduction=kind)(m, x, y, [7, 6, 4], [4, 2, 1]), x, y)
        c(ctc(reduction=kind), x, y, c.exactly([0, 6, 5]), c.exactly([0, 0, 1]))
        c(ctc(reduction=kind), x, y, c.exactly([3, 6, 5]), k)
    c(ctc(blank=2), x, c.exactly([[0, 1, 1], [3, 1, 4], [4, 0, 0]]), n, c.exactly([3, 3, 1]))
    c(ctc(), x, y.to("int32"), n.to("int32"), k.to("int32"))
    c(ctc(), c.f32(7, 3, 5), y, n, k)
    c(ctc(), c.f64(1, 3, 5), y, c.exactly([1, 1, 1]), c.exactly([1, 0, 1]))
    c(ctc(), x, c.i64(3, 0), n, c.exactly([0, 0, 0]))
    c(ctc(), x, c.exactly([[1, 0, 2], [-1, -1, -1], [9, 9, 9]]), n, c.exactly([3, 0, 0]))
    c(ctc(reduction="sum"), *inputs(c, 40, 2, 9))
    c(lambda m, x, *r: m.nn.functional.ctc_loss(x, *r), x, y, n, k)  # no log-probabilities
    c(lambda m, x, *r: m.nn.functional.ctc_loss(x, *r, reduction="sum"), x, y,
      c.exactly([3, 6, 5]), k)  # fmt: skip


@case("torch.nn.functional.ctc_loss")
def errors(c):
    x, y, n, k = inputs(c)
    c.error(ctc(reduction="most"), x, y, n, k)
    c.error(ctc(blank=5), x, y, n, k)
    c.error(ctc(blank=-1), x, y, n, k)
    c.error(ctc(), x, y, c.exactly([8, 6, 4]), k)
    c.error(ctc(), x, y, n, c.exactly([5, 2, 1]))
    c.error(ctc(), x, y, n, c.exactly([-1, 2, 1]))
    c.error(ctc(), x, y, c.exactly([7, 6]), c.exactly([4, 2]))
    c.error(ctc(), x, y, n, c.f64(3))
    c.error(ctc(), x, c.exactly([1, 2, 2, 4, 3, 1]), n, k)
    c.error(ctc(), x, c.exactly([[1, 2], [2, 3]]), n, c.exactly([2, 2, 1]))
    c.error(ctc(), c.f64(1, 2, 3, 4), y, n, k)
    c.error(ctc(), c.f64(0, 3, 5), y, c.exactly([0, 0, 0]), k)
    c.error(ctc(), c.of("float16", 7, 3, 5), y, n, k)
    c.error(lambda m, x, y, n: ctc()(m, x, y, n, (4, 2, 1)), x, y, n)
    c.error(lambda m, x, y: ctc()(m, x, y, (8, 6, 4), (4, 2, 1)), x, y)


@case("torch.nn.CTCLoss")
def module(c):
    x, y, n, k = inputs(c)
    for kind in KINDS:
        c(lambda m, x, *r, kind=kind: m.nn.CTCLoss(reduction=kind)(m.log_softmax(x, 2), *r),
          *(x, y, n, k))  # fmt: skip
    c(lambda m, x, *r: m.nn.CTCLoss(0, "sum", True)(m.log_softmax(x, 2), *r),
      *(x, y, c.exactly([2, 6, 4]), k))  # fmt: skip
    c(lambda m: [repr(m.nn.CTCLoss(2)), m.nn.CTCLoss(2).blank])
    c.error(lambda m, *x: m.nn.CTCLoss(reduction="most")(*x), x, y, n, k)
