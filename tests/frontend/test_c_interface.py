"""What a C program can rely on: several models, threads, children, processors, and errors."""

import shutil
import subprocess

import c_programs
import numpy as np
import pytest

import braze
from braze import nn
from braze.runtime import host_target, load

pytestmark = pytest.mark.skipif(c_programs.COMPILER is None, reason="there is no C compiler")
X86 = host_target().architecture == "x86_64"
needs_valgrind = pytest.mark.skipif(
    c_programs.VALGRIND is None or not {"avx2", "fma"} <= set(host_target().features),
    reason="there is no valgrind, or no AVX2",
)


def written(folder, module, shape, name, **options):
    """A model with one input and one result, an input, and what it gives in Python."""
    braze.manual_seed(3)
    x = braze.randn(*shape)
    path = folder / f"{name}.brz"
    braze.aot.compile(module, x, path, **options)
    files = braze.aot.export_c(path, folder)
    result = load(path)(x.numpy()) if options.get("target") != "x86-64-v4" else None
    (folder / f"{name}.in").write_bytes(x.numpy().tobytes())
    if result is not None:
        (folder / f"{name}.out").write_bytes(result.tobytes())
    return files


def network():
    braze.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 64), nn.Tanh()
    ).eval()


READ = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void *get(const char *path, size_t bytes) {
  FILE *file = fopen(path, "rb");
  void *data = malloc(bytes);
  if (!file || !data || fread(data, 1, bytes, file) != bytes) exit(90);
  fclose(file);
  return data;
}
"""

TWO = """
#include "one.h"
#include "two.h"
@READ@
int main(void) {
  one_error error;
  one_model *first = one_create(2, &error), *again = one_create(1, &error);
  two_model *second = two_create(0, NULL);
  float *x = get("one.in", sizeof(float) * ONE_INPUT_COUNT);
  float *y = get("two.in", sizeof(float) * TWO_INPUT_COUNT);
  float *wx = get("one.out", sizeof(float) * ONE_OUTPUT_COUNT);
  float *wy = get("two.out", sizeof(float) * TWO_OUTPUT_COUNT);
  float *rx = malloc(sizeof(float) * ONE_OUTPUT_COUNT);
  float *ry = malloc(sizeof(float) * TWO_OUTPUT_COUNT);
  int64_t shape[] = TWO_INPUT_SHAPE;
  one_inputs ix = {x};
  one_outputs ox = {rx};
  two_inputs iy = {y};
  two_outputs oy = {ry};
  int bad = 0, i;
  if (!first || !again || !second) return 20;
  for (i = 0; i < 3; i++) {
    memset(rx, 1, sizeof(float) * ONE_OUTPUT_COUNT);
    bad |= one_run(i & 1 ? again : first, &ix, &ox, &error) || two_run(second, &iy, &oy, NULL);
    bad |= memcmp(rx, wx, sizeof(float) * ONE_OUTPUT_COUNT) != 0;
    bad |= memcmp(ry, wy, sizeof(float) * TWO_OUTPUT_COUNT) != 0;
  }
  one_destroy(first);
  one_destroy(again);
  one_destroy(NULL);
  two_destroy(second);
  free(x), free(y), free(wx), free(wy), free(rx), free(ry);
  return bad ? 21 : shape[1] == 12 ? 0 : 22;
}
"""


def two_models(folder, **options):
    written(folder, network(), (2, 3, 16, 16), "one", **options)
    written(folder, nn.Sequential(nn.Linear(12, 9), nn.ReLU()), (4, 12), "two", **options)
    objects = [folder / "one.o", folder / "two.o"]
    return c_programs.build(folder, TWO.replace("@READ@", READ), objects)


def test_two_models_in_one_program(tmp_path):
    assert c_programs.run(two_models(tmp_path)).returncode == 0


@needs_valgrind
def test_two_models_leave_nothing_behind(tmp_path):
    program = two_models(tmp_path, target="x86-64-v3")
    assert c_programs.run(program, checked=True).returncode == 0


def test_only_the_functions_are_to_be_seen(tmp_path):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("there is no nm")
    files = written(tmp_path, network(), (2, 3, 16, 16), "one")
    shown = subprocess.run([nm, "-g", files.object], capture_output=True, text=True, check=True)
    symbols = [line.split() for line in shown.stdout.splitlines()]
    assert {s[-1] for s in symbols if s[-2] != "U"} == {"one_create", "one_run", "one_destroy"}
    library = {"free", "snprintf", "syscall", "memcpy", "memmove", "memset", "getpid", "madvise"}
    library |= {"clock_gettime", "sched_getaffinity", "sigfillset", "posix_memalign"}
    needed = {s[-1] for s in symbols if s[-2] == "U"}
    assert {name for name in needed if not name.startswith("pthread_")} <= library


MANY = """
#include "one.h"
#include <pthread.h>
@READ@
static one_model *model;
static float *x, *wanted;
static size_t bytes = sizeof(float) * ONE_OUTPUT_COUNT;

static void *work(void *unused) {
  /* On a multiple of 4 bytes, and of no more. */
  float *block = malloc(bytes + sizeof(float)), *result = block + 1;
  one_inputs inputs = {x};
  one_outputs outputs = {result};
  size_t bad = 0;
  int i;
  for (i = 0; i < @CALLS@; i++) {
    memset(result, 1, bytes);
    bad += one_run(model, &inputs, &outputs, NULL) || memcmp(result, wanted, bytes);
  }
  free(block);
  (void)unused;
  return (void *)bad;
}

int main(int count, char **words) {
  pthread_t threads[5];
  void *bad;
  size_t sum = 0;
  int i;
  x = get("one.in", sizeof(float) * ONE_INPUT_COUNT);
  wanted = get("one.out", bytes);
  model = one_create(count > 1 ? atoi(words[1]) : 3, NULL);
  if (!model) return 20;
  for (i = 0; i < 5; i++) pthread_create(&threads[i], NULL, work, NULL);
  for (i = 0; i < 5; i++) pthread_join(threads[i], &bad), sum += (size_t)bad;
  one_destroy(model);
  free(x), free(wanted);
  return sum ? 21 : 0;
}
"""


def test_threads_call_one_model_at_once(tmp_path):
    files = written(tmp_path, network(), (2, 3, 16, 16), "one")
    source = MANY.replace("@READ@", READ).replace("@CALLS@", "2000")
    program = c_programs.build(tmp_path, source, [files.object])
    for threads in (1, 2, 3):
        assert c_programs.run(program, threads).returncode == 0


@needs_valgrind
def test_memory_of_calls_at_once_is_given_back(tmp_path):
    files = written(tmp_path, network(), (2, 3, 16, 16), "one", target="x86-64-v3")
    source = MANY.replace("@READ@", READ).replace("@CALLS@", "4")
    program = c_programs.build(tmp_path, source, [files.object])
    assert c_programs.run(program, 2, checked=True).returncode == 0


FORK = """
#include "one.h"
#include <sys/wait.h>
#include <unistd.h>
@READ@
static int right(one_model *model, const float *x, const float *wanted) {
  size_t bytes = sizeof(float) * ONE_OUTPUT_COUNT;
  float *result = malloc(bytes);
  one_inputs inputs = {x};
  one_outputs outputs = {result};
  int i, bad = 0;
  for (i = 0; i < 20; i++) {
    memset(result, 1, bytes);
    bad += one_run(model, &inputs, &outputs, NULL) || memcmp(result, wanted, bytes);
  }
  free(result);
  return !bad;
}

int main(void) {
  float *x = get("one.in", sizeof(float) * ONE_INPUT_COUNT);
  float *wanted = get("one.out", sizeof(float) * ONE_OUTPUT_COUNT);
  one_model *model = one_create(3, NULL), *own;
  int status = 0, i;
  if (!model || !right(model, x, wanted)) return 20;
  for (i = 0; i < 3; i++) {
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      if (!right(model, x, wanted)) return 21;
      own = one_create(2, NULL);
      if (!own || !right(own, x, wanted)) return 22;
      one_destroy(own);
      one_destroy(model);
      free(x), free(wanted);
      return 0;
    }
    if (waitpid(child, &status, 0) != child || status != 0) return 23;
    if (!right(model, x, wanted)) return 24;
  }
  one_destroy(model);
  free(x), free(wanted);
  return 0;
}
"""


def test_a_child_goes_on_with_its_copy(tmp_path):
    files = written(tmp_path, network(), (2, 3, 16, 16), "one")
    program = c_programs.build(tmp_path, FORK.replace("@READ@", READ), [files.object])
    assert c_programs.run(program).returncode == 0


WRONG = """
#include "one.h"
@READ@
static char storage[4096];

int main(void) {
  one_error error = {77, "unchanged"};
  one_model *model;
  one_inputs inputs = {(float *)storage};
  one_outputs outputs = {(float *)storage + 512};
  if (one_create(-1, &error) || error.code != ONE_BAD_ARGUMENT) return 20;
  puts(error.message);
  if (one_create(4097, &error) || one_create(-5, NULL)) return 21;
  puts(error.message);
  model = one_create(1, &error);
  if (one_run(NULL, &inputs, &outputs, &error) != ONE_BAD_ARGUMENT) return 22;
  puts(error.message);
  if (one_run(model, NULL, &outputs, &error) != ONE_BAD_ARGUMENT) return 23;
  puts(error.message);
  if (one_run(model, &inputs, NULL, &error) != ONE_BAD_ARGUMENT) return 24;
  puts(error.message);
  inputs.input = NULL;
  if (one_run(model, &inputs, &outputs, &error) != ONE_BAD_ARGUMENT) return 25;
  puts(error.message);
  inputs.input = (float *)storage;
  outputs.output = (float *)(void *)(storage + 2050);
  if (one_run(model, &inputs, &outputs, &error) != ONE_BAD_ARGUMENT) return 26;
  puts(error.message);
  if (one_run(model, &inputs, &outputs, NULL) != ONE_BAD_ARGUMENT) return 27;
  outputs.output = (float *)storage + 512;
  error.code = 77;
  if (one_run(model, &inputs, &outputs, &error) != ONE_OK || error.code != 77) return 28;
  one_destroy(model);
  return 0;
}
"""


def test_wrong_arguments_have_messages(tmp_path):
    files = written(tmp_path, nn.Linear(12, 9), (4, 12), "one")
    source = WRONG.replace("@READ@", "#include <stdio.h>")
    done = c_programs.run(c_programs.build(tmp_path, source, [files.object]))
    assert done.returncode == 0
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "threads must be 0 to 4096, given -1",
        "threads must be 0 to 4096, given 4097",
        "the model is NULL",
        "inputs is NULL",
        "outputs is NULL",
        "input input is NULL",
    ]
    assert last.startswith("output output is at 0x") and last.endswith("no multiple of 4")


LIMITED = """
#include "one.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
static float x[ONE_X_COUNT], y[ONE_OUTPUT_COUNT];

int main(int count, char **words) {
  one_error error = {0, ""};
  rlim_t most = (rlim_t)atol(words[count - 1]) << 20;
  struct rlimit limit = {most, most};
  one_model *model;
  if (setrlimit(RLIMIT_AS, &limit)) return 20;
  model = one_create(atoi(words[1]), &error);
  for (count = 0; model && count < 30; count++) {
    one_inputs inputs = {x};
    one_outputs outputs = {y};
    if (one_run(model, &inputs, &outputs, &error)) break;
  }
  puts(error.message);
  one_destroy(model);
  return error.code;
}
"""


def test_what_the_system_refuses_is_a_code(tmp_path):
    files = written(tmp_path, lambda x: (x @ x.t()).softmax(0) @ x, (4000, 2), "one")
    program = c_programs.build(tmp_path, LIMITED, [files.object])
    # 30 calls use the memory of one: 64 MB.
    assert c_programs.run(program, 1, 200).returncode == 0
    done = c_programs.run(program, 1, 40)
    assert done.returncode == 2 and done.stdout.startswith("no memory for ")
    done = c_programs.run(program, 4000, 2000)  # their stacks do not fit
    assert done.returncode == 3 and "error 11 of pthread_create" in done.stdout


REFUSED = """
#include "one.h"
#include <stdio.h>

int main(void) {
  one_error error = {0, ""};
  one_model *model = one_create(1, &error);
  puts(error.message);
  one_destroy(model);
  return error.code;
}
"""


@pytest.mark.skipif(not X86, reason="this is about x86")
def test_another_processor_is_refused(tmp_path):
    """Whichever runs the program: this one without AVX-512, or valgrind's."""
    has_it = "avx512f" in host_target().features
    if has_it and c_programs.VALGRIND is None:
        pytest.skip("there is no valgrind")
    files = written(tmp_path, nn.Linear(12, 9), (4, 12), "one", target="x86-64-v4")
    done = c_programs.run(c_programs.build(tmp_path, REFUSED, [files.object]), checked=has_it)
    assert done.returncode == 4
    said = "this processor cannot run the model's code: x86-64-v4 needs"
    assert done.stdout.startswith(said) and " avx512f" in done.stdout


@pytest.mark.skipif(not X86, reason="this is about x86")
@needs_valgrind
def test_the_widest_code_that_runs_is_used(tmp_path):
    """Natively the code of one target, under valgrind that of another; both are right."""
    targets = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
    files = written(tmp_path, network(), (2, 3, 16, 16), "one", target=targets)
    assert "Code   x86-64-v4, x86-64-v3, x86-64-v2" in files.header.read_text()
    x = np.frombuffer((tmp_path / "one.in").read_bytes(), "f4").reshape(2, 3, 16, 16)
    wanted = load(tmp_path / "one.brz")(x)
    program = c_programs.program_for(files.header, {"input": x}, {"output": wanted})
    assert c_programs.run(program, 2).returncode == 0
    native = c_programs.results(tmp_path, {"output": wanted})["output"]
    assert native.tobytes() == wanted.tobytes()
    assert c_programs.run(program, 2, checked=True).returncode == 0
    narrower = c_programs.results(tmp_path, {"output": wanted})["output"]
    np.testing.assert_allclose(narrower, wanted, rtol=1e-5, atol=1e-6)


def test_headers_are_cplusplus_too(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    files = written(tmp_path, network(), (2, 3, 16, 16), "one")
    (tmp_path / "program.cpp").write_text(REFUSED)
    program = tmp_path / "program"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", tmp_path / "program.cpp",
               files.object, "-pthread", "-o", program]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    assert c_programs.run(program).returncode == 0


SIGNALS = """
#include "one.h"
#include <signal.h>
#include <unistd.h>
static volatile sig_atomic_t handled;
static void handle(int number) {
  (void)number;
  handled = 1;
}

int main(void) {
  sigset_t own, before, after, waiting;
  one_model *model;
  signal(SIGUSR1, handle);
  sigemptyset(&own);
  sigaddset(&own, SIGUSR2);
  sigprocmask(SIG_SETMASK, &own, &before);
  model = one_create(4, NULL);
  sigprocmask(SIG_SETMASK, NULL, &after);
  if (!sigismember(&after, SIGUSR2) || sigismember(&after, SIGUSR1)) return 20;
  sigaddset(&own, SIGUSR1);
  sigprocmask(SIG_SETMASK, &own, NULL);
  kill(getpid(), SIGUSR1);
  usleep(100000);
  sigpending(&waiting);
  if (handled || !sigismember(&waiting, SIGUSR1)) return 21;
  one_destroy(model);
  sigprocmask(SIG_SETMASK, &before, NULL);
  return handled ? 0 : 22;
}
"""


def test_signals_go_to_the_programs_own_threads(tmp_path):
    files = written(tmp_path, nn.Linear(12, 9), (4, 12), "one")
    assert c_programs.run(c_programs.build(tmp_path, SIGNALS, [files.object])).returncode == 0


SIZES = """
#include "one.h"
@READ@
int main(void) {
  static const int sizes[] = {5, 64, 3, 5, 1, 200, 1, 64};
  one_model *model = one_create(2, NULL);
  int i, bad = 0;
  for (i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++) {
    char path[40];
    float *x, *wanted, *result = malloc(sizeof(float) * ONE_OUTPUT_COUNT(sizes[i]));
    one_inputs inputs;
    one_outputs outputs = {result};
    sprintf(path, "%d.in", sizes[i]);
    inputs.input = x = get(path, sizeof(float) * ONE_INPUT_COUNT(sizes[i]));
    sprintf(path, "%d.out", sizes[i]);
    wanted = get(path, sizeof(float) * ONE_OUTPUT_COUNT(sizes[i]));
    bad |= one_run(model, sizes[i], &inputs, &outputs, NULL);
    bad |= memcmp(result, wanted, sizeof(float) * ONE_OUTPUT_COUNT(sizes[i]));
    free(x), free(wanted), free(result);
  }
  one_destroy(model);
  return bad ? 21 : 0;
}
"""


@pytest.mark.parametrize("checked", [False, pytest.param(True, marks=needs_valgrind)])
def test_one_model_at_many_sizes(tmp_path, checked):
    braze.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 300), nn.Linear(300, 3))
    path, target = tmp_path / "one.brz", "x86-64-v3" if checked else "host"
    braze.aot.compile(module, braze.randn(8, 12), path, target, dynamic=[{0: "batch"}])
    files, model = braze.aot.export_c(path, tmp_path), load(path)
    for size in (1, 3, 5, 64, 200):
        x = braze.randn(size, 12).numpy()
        (tmp_path / f"{size}.in").write_bytes(x.tobytes())
        (tmp_path / f"{size}.out").write_bytes(model(x).tobytes())
    program = c_programs.build(tmp_path, SIZES.replace("@READ@", READ), [files.object])
    assert c_programs.run(program, checked=checked).returncode == 0
