"""Cases of torch.multiprocessing: what processes that were forked see of each other's tensors."""

import operator
import os
import pickle
import signal
import warnings

from compare_cases import case

FORK = {"compiled": False, "gradients": 0}


def forked(m, target, *args):
    """Run a function in a forked process; its exit code."""
    process = m.multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    process.join()
    return process.exitcode


def through(m, send, receive, x):
    """Send a tensor to a forked process, which adds 1 to it in place and sends it back."""

    def child():
        got = receive[0]()
        got.add_(1)
        send[1](got)
        receive[0]()

    process = m.multiprocessing.get_context("fork").Process(target=child)
    process.start()
    send[0](x)
    back = receive[1]()
    same = back.data_ptr() == x.data_ptr()
    back.mul_(2)
    send[0](None)
    process.join()
    return x, back, same, x.is_shared(), process.exitcode


def queues(c, kind):
    def sent(m, x):
        make = getattr(m.multiprocessing.get_context("fork"), kind)
        there, back = make(), make()
        return through(m, (there.put, back.put), (there.get, back.get), x)

    x = c.f32(2, 3).constant()
    c(sent, x, **FORK)
    c(lambda m, x: sent(m, x[1]), x, **FORK)
    c(lambda m, x: sent(m, x.t()), x, **FORK)


@case("torch.multiprocessing.Queue")
def queue(c):
    queues(c, "Queue")


@case("torch.multiprocessing.SimpleQueue")
def simple_queue(c):
    queues(c, "SimpleQueue")

    def refused(m, x):
        m.multiprocessing.SimpleQueue().put(x * 2)

    c.error(refused, c.f64(3))


@case("torch.multiprocessing.JoinableQueue")
def joinable_queue(c):
    queues(c, "JoinableQueue")


@case("torch.multiprocessing.Pipe")
def pipe(c):
    def sent(m, x):
        one, two = m.multiprocessing.Pipe()
        return through(m, (one.send, two.send), (two.recv, one.recv), x)

    c(sent, c.f32(2, 3).constant(), **FORK)
    c(sent, c.i64(4), **FORK)

    def here(m, x):
        one, two = m.multiprocessing.Pipe()
        found = []
        parameter = m.nn.Parameter(x.detach(), requires_grad=x.is_floating_point())
        for item in (x, x.detach(), parameter, [x.detach(), {"a": 1}]):
            one.send(item)
            got = two.recv()
            found.append((got, type(got).__name__))
        return found

    c(here, c.f64(3), gradients=0)
    for dtype in ("bfloat16", "float16", "bool", "uint8", "int64"):
        c(here, c.of(dtype, 2, 2), gradients=0, compiled=False)


@case("torch.multiprocessing.Process")
def process(c):
    def writes(m, x):
        x.share_memory_()
        code = forked(m, lambda: x.add_(1))
        return x, code

    c(writes, c.f32(3), **FORK)

    def private(m, x):
        code = forked(m, lambda: x.add_(1))
        return x, code

    c(private, c.f32(3), **FORK)
    c(lambda m: forked(m, os._exit, 3), **FORK)
    c(lambda m: forked(m, lambda: os.kill(os.getpid(), signal.SIGKILL)), **FORK)

    def trains(m):
        net = m.nn.Linear(2, 1, bias=False)
        with m.no_grad():
            net.weight.fill_(1.0)
        net.share_memory()

        def train():
            optimizer = m.optim.SGD(net.parameters(), lr=0.5)
            for _ in range(3):
                optimizer.zero_grad()
                net(m.ones(1, 2)).sum().backward()
                optimizer.step()

        code = forked(m, train)
        return net.weight.detach(), net.weight.grad, code

    c(trains, **FORK)


@case("torch.multiprocessing.Pool")
def pool(c):
    def mapped(m):
        with m.multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(operator.neg, [m.full((2,), float(i)) for i in range(3)])

    c(mapped, **FORK)


@case("torch.multiprocessing.Manager")
def manager(c):
    def kept(m, x):
        with m.multiprocessing.get_context("fork").Manager() as server:
            table = server.dict(x=x)
            table["x"].add_(1)
            return x, table["x"].clone()

    c(kept, c.f32(3), **FORK)


# Sharing ------------------------------------------------------------------------------------------


@case("torch.multiprocessing.get_all_sharing_strategies")
def all_strategies(c):
    c(lambda m: sorted(m.multiprocessing.get_all_sharing_strategies()))


@case("torch.multiprocessing.get_sharing_strategy")
def get_strategy(c):
    c(lambda m: m.multiprocessing.get_sharing_strategy())


@case("torch.multiprocessing.set_sharing_strategy")
def set_strategy(c):
    def changed(m):
        m.multiprocessing.set_sharing_strategy("file_system")
        try:
            one, two = m.multiprocessing.Pipe()
            x = m.arange(3.0)
            one.send(x)
            got = two.recv()
            got.add_(1)
            return m.multiprocessing.get_sharing_strategy(), x, got.data_ptr() == x.data_ptr()
        finally:
            m.multiprocessing.set_sharing_strategy("file_descriptor")

    c(changed, **FORK)
    c.error(lambda m: m.multiprocessing.set_sharing_strategy("pigeon"))


# Starting several ---------------------------------------------------------------------------------


@case("torch.multiprocessing.spawn")
def spawn(c):
    c(lambda m: m.multiprocessing.spawn(operator.truth, nprocs=1), **FORK)
    c.error(lambda m: m.multiprocessing.spawn(lambda i: None))


@case("torch.multiprocessing.start_processes")
def start_processes(c):
    def filled(m):
        x = m.zeros(3).share_memory_()

        def fill(i, value):
            x[i] = value + i

        start = m.multiprocessing.start_processes
        result = start(fill, (10,), nprocs=3, start_method="fork")
        return x, result

    c(filled, **FORK)
    c.error(lambda m: m.multiprocessing.start_processes(print, start_method="thread"))


@case("torch.multiprocessing.ProcessContext")
def process_context(c):
    def joined(m):
        start = m.multiprocessing.start_processes
        context = start(lambda i: None, nprocs=2, join=False, start_method="fork")
        count = len(context.pids())
        while not context.join(timeout=5, grace_period=1):
            pass
        return type(context).__name__, count, context.join()

    c(joined, **FORK)


@case("torch.multiprocessing.SpawnContext")
def spawn_context(c):
    def warned(m):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            context = m.multiprocessing.SpawnContext([], [])
        return str(seen[0].message), context.join(), context.pids()

    c(warned)
    c(lambda m: issubclass(m.multiprocessing.SpawnContext, m.multiprocessing.ProcessContext))


def failure(m, fn):
    """The exception of processes of which one fails."""
    try:
        m.multiprocessing.start_processes(fn, nprocs=2, start_method="fork")
    except Exception as error:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error)) and error.error_pid > 0
        return error
    return None


@case("torch.multiprocessing.ProcessRaisedException")
def raised(c):
    def found(m):
        def fail(i):
            if i == 1:
                raise ValueError("no")

        error = failure(m, fail)
        lines = error.msg.strip().splitlines()
        return type(error).__name__, error.error_index, lines[0], lines[-1]

    c(found, **FORK)


@case("torch.multiprocessing.ProcessExitedException")
def exited(c):
    def found(m, how):
        def fail(i):
            if i == 0:
                how()

        error = failure(m, fail)
        code = error.exit_code, error.signal_name
        return type(error).__name__, error.error_index, error.msg, *code

    c(lambda m: found(m, lambda: os.kill(os.getpid(), signal.SIGKILL)), **FORK)
    c(lambda m: found(m, lambda: os._exit(5)), **FORK)


# What is the standard module's --------------------------------------------------------------------


@case("torch.multiprocessing.Event")
def event(c):
    def told(m):
        context = m.multiprocessing.get_context("fork")
        x, ready = m.zeros(2).share_memory_(), context.Event()

        def child():
            x.add_(1)
            ready.set()

        process = context.Process(target=child)
        process.start()
        in_time = ready.wait(20)
        seen = x.clone()
        process.join()
        return in_time, seen

    c(told, **FORK)


def counted(m, lock):
    """Two processes that count together."""
    x = m.zeros(1).share_memory_()

    def child():
        for _ in range(20):
            with lock:
                x[0] = x[0].item() + 1

    context = m.multiprocessing.get_context("fork")
    processes = [context.Process(target=child) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return x


@case(
    "torch.multiprocessing.Lock",
    "torch.multiprocessing.RLock",
    "torch.multiprocessing.Condition",
    "torch.multiprocessing.Semaphore",
)
def locks(c, name):
    c(lambda m: counted(m, getattr(m.multiprocessing, name)()), **FORK)


@case("torch.multiprocessing.Barrier")
def barrier(c):
    def met(m):
        context = m.multiprocessing.get_context("fork")
        gate, x = context.Barrier(2), m.zeros(2).share_memory_()

        def child():
            x[0] = 5
            gate.wait(20)
            gate.wait(20)
            x[1] = x[0] + 1

        process = context.Process(target=child)
        process.start()
        gate.wait(20)
        x[0] = x[0] * 2
        gate.wait(20)
        process.join()
        return x

    c(met, **FORK)


@case("torch.multiprocessing.Value", "torch.multiprocessing.Array")
def values(c, name):
    args = ("i", 3) if name == "Value" else ("i", [1, 2])

    def used(m):
        made = getattr(m.multiprocessing, name)(*args)
        return made.value if name == "Value" else made[:]

    c(used)


@case("torch.multiprocessing.cpu_count")
def cpu_count(c):
    c(lambda m: m.multiprocessing.cpu_count())


@case("torch.multiprocessing.current_process")
def current_process(c):
    c(lambda m: m.multiprocessing.current_process().name)


@case("torch.multiprocessing.get_context")
def get_context(c):
    for method in ("fork", "spawn", "forkserver"):
        c(lambda m, k=method: m.multiprocessing.get_context(k).get_start_method())
    c.error(lambda m: m.multiprocessing.get_context("thread"))


@case("torch.multiprocessing.get_start_method")
def get_start_method(c):
    c(lambda m: m.multiprocessing.get_start_method())


@case("torch.multiprocessing.set_start_method")
def set_start_method(c):
    def forced(m):
        before = m.multiprocessing.get_start_method()
        m.multiprocessing.set_start_method("spawn", force=True)
        now = m.multiprocessing.get_start_method()
        m.multiprocessing.set_start_method(before, force=True)
        return now

    c(forced)
    c.error(lambda m: m.multiprocessing.set_start_method("thread", force=True))
