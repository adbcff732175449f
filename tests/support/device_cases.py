"""Which tests run a second time, on a CUDA device: those of operations and modules.

With `--device-cases=some`, the default, of each of the `SAMPLED` files the tests that bring an
operation which none before them in the file brought, as far as they are quick: what they capture is
seen when they run on the CPU. With "all" each test of all files runs, compiled, with "none" none.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

import pytest

VARIABLE = "BRAZE_DEVICE_CASES"
PLACE = "cuda:0"
# Of a test on the CPU, of which "some" on an emulated device is not a part if it takes longer.
QUICK_SECONDS = 0.5

FILES = frozenset(
    """
    activation_layers attention autocast autograd autograd_engine autograd_function
    autograd_functional autograd_gradcheck checkpoint complex_linalg complex_numbers
    convolution_gradients ctc distributions dropout_layers einsum elementwise_against_torch
    embedding fft fourier functional grids host_calls indexing inference_tensors
    integer_division interpolation layers_against_torch lazy_modules legacy_nn legacy_optim
    linalg losses lr_schedulers module_hooks modules nn_layers normalization_layers optim
    optim_formulas optim_state out overwritten padding_and_folding parametrizations pooling
    products prune python_protocols random recurrent reductions_and_creation scans searching
    short_time sorting sparse_against_torch sparse_construction sparse_elementwise
    sparse_functions sparse_gradients sparse_modules sparse_products
    special_functions spectral_against_torch tail_against_torch tail_functions tensor_questions
    tensors training_loops unsigned_integers views
    """.split()
)

SAMPLED = frozenset(
    "einsum embedding grids indexing losses modules normalization_layers parametrizations pooling "
    "prune recurrent tensors".split()
)

MEMORY = "an array on the tensor's memory"
TEXT = "texts name the device"
NO_GPU = "says what there is without a GPU"
LATER = "a GPU finds it when it gets there"
COUNTS = "counts what the CPU's runtime does"
HOST = "makes and reads files, or arrays, of the host"
ROUNDING = "asks for bits that GPUs do not promise: terms of 50 cancel"
KERNELS = "compiles for the host"
GENERATOR = "a generator of the CPU"
AUTOCAST = "autocasts on the CPU"
ON_CPU = "what it calls makes tensors on the CPU unless told otherwise, as in PyTorch"
# Tests of these files that mean the CPU. File: {test: why}.
CPU_ONLY: dict[str, dict[str, str]] = {
    "attention": {"test_a_layer_needs_memory_for_its_length_only": KERNELS},
    "autocast": {
        "test_a_parameter_is_cast_once": KERNELS,
        "test_a_scaler_without_a_device_warns_at_the_users_line": NO_GPU,
        "test_an_iteration_with_a_scaler_is_one_run": COUNTS,
        "test_blocks_nest_decorate_and_end": AUTOCAST,
        "test_checkpoints_run_again_in_the_same_dtype": AUTOCAST,
        "test_compiled_modules_tell_blocks_apart": AUTOCAST,
        "test_products_round_their_operands_to_bfloat16": AUTOCAST,
        "test_threads_have_settings_of_their_own": AUTOCAST,
        "test_training_in_bfloat16": AUTOCAST,
        "test_without_a_gpu_the_scaler_of_one_is_off": NO_GPU,
    },
    "autograd_engine": {
        "test_anomaly_in_custom_functions_and_second_derivatives": TEXT,
        "test_anomaly_knows_all_operands_of_what_ran_while_it_was_on": TEXT,
        "test_anomaly_says_what_the_operation_was_given": TEXT,
    },
    "checkpoint": {"test_fewer_bytes_are_kept_between_the_passes": COUNTS},
    "complex_linalg": {"test_the_old_eig_takes_real_matrices": TEXT},
    "complex_numbers": {
        "test_interchange": HOST,
        "test_parts_are_views": MEMORY,
        "test_printing": TEXT,
    },
    "distributions": {
        "test_a_choice_captures_few_operations": COUNTS,
        "test_a_constraint_is_checked_by_one_operation": LATER,
        "test_a_constraint_of_the_users_own_is_demanded_each_time": LATER,
        "test_arguments_are_checked": LATER,
        "test_checks_of_categories_name_the_users_line": LATER,
        "test_what_is_demanded_belongs_to_the_bounds_the_type_and_the_name": TEXT,
    },
    "fourier": {"test_errors": TEXT},
    "functional": {"test_dropout_is_reproducible_and_never_repeats": GENERATOR},
    "grids": {"test_compiled_with_one_gather": KERNELS},
    "integer_division": {"test_in_place": LATER},
    "interpolation": {
        "test_after_a_convolution_no_order_of_dimensions_is_changed_for_it": KERNELS,
        "test_compiled_in_a_few_kernels": KERNELS,
    },
    "legacy_nn": {"test_types_copies_and_pickles": TEXT},
    "module_hooks": {"test_there_is_no_gpu_to_move_a_module_to": NO_GPU},
    "modules": {
        "test_parameter_list_and_dict": TEXT,
        "test_parameters_share_memory_with_what_they_were_made_from_and_have_a_text": MEMORY,
    },
    "optim": {"test_gradient_clipping": LATER},
    "out": {"test_the_result_is_in_the_memory_of_out": MEMORY},
    "parametrizations": {"test_modules_without_first_values_draw_no_numbers": ON_CPU},
    "pooling": {"test_compiled_as_interpreted": ROUNDING},
    "products": {"test_errors": TEXT},
    "python_protocols": {
        "test_format_and_containment": TEXT,
        "test_numpy_arrays_as_operands": HOST,
    },
    "random": {
        "test_draws_of_one_stream_do_not_overlap": GENERATOR,
        "test_generators_and_states": GENERATOR,
        "test_the_default_stream": GENERATOR,
    },
    "scans": {"test_errors": TEXT},
    "short_time": {"test_errors": TEXT},
    "sparse_against_torch": {"test_text": TEXT},
    "sparse_construction": {"test_legacy_types": TEXT, "test_printing": TEXT},
    "sparse_products": {"test_products_that_do_not_fit": TEXT},
    "tail_functions": {"test_tensors_on_other_memory": HOST},
    "tensors": {
        "test_there_is_no_gpu_to_make_a_tensor_on": NO_GPU,
        "test_products": TEXT,
        "test_the_address_of_a_view_is_in_its_roots_memory": MEMORY,
    },
    "training_loops": {"test_a_failed_check_leaves_the_state_as_it_was": LATER},
    "unsigned_integers": {"test_making_and_interchange": HOST},
    "views": {
        "test_a_tensor_detached_after_it_was_moved_in_place": MEMORY,
        "test_numpy_shares_the_memory_of_views": MEMORY,
    },
}


def generate(metafunc: pytest.Metafunc) -> None:
    """Give a test its second run, after the first one."""
    module = metafunc.module.__name__.removeprefix("test_")
    function = metafunc.function
    wanted = {"none": frozenset(), "some": SAMPLED, "all": FILES}
    if (
        module not in wanted[metafunc.config.getoption("device_cases")]
        or metafunc.definition.originalname in CPU_ONLY.get(module, {})
        or hasattr(inspect.unwrap(function), "hypothesis")
        or hasattr(function, "hypothesis")
    ):
        return
    metafunc.fixturenames.insert(0, "device_of_case")
    cases = [pytest.param("cpu", id=pytest.HIDDEN_PARAM), "cuda"]
    metafunc.parametrize("device_of_case", cases, indirect=True)


def device_of(item: pytest.Item) -> str | None:
    """The device of a case, of a test that has several."""
    call = getattr(item, "callspec", None)
    return call.params.get("device_of_case") if call else None


def is_interpreted(item: pytest.Item) -> bool:
    """Whether a case of a device is another's that asks for the interpreter on the host."""
    if device_of(item) != "cuda":
        return False
    values = item.callspec.params.values()  # type: ignore[attr-defined]
    return any(isinstance(value, str) and value == "interpret" for value in values)


class Seen:
    """What the tests of each file captured.

    Attributes:
        operations: of a case on the CPU, and its seconds.
        on_device: of a file, what ran on the device.
    """

    operations: dict[tuple[object, ...], tuple[set[str], float]] = {}
    on_device: dict[str, set[str]] = {}


def key_of(item: pytest.Item) -> tuple[object, ...]:
    return item.path, item.originalname, item.name.replace("cuda-", "").replace("cuda", "")  # type: ignore[attr-defined]


def reason_to_skip(item: pytest.Item) -> str | None:
    """Why a device's case is none of "some"."""
    found = Seen.operations.get(key_of(item))
    if found is None:  # it is asked for by itself
        return None
    operations, seconds = found
    if seconds > QUICK_SECONDS:
        return f"takes {seconds:.1f} s on the CPU; {VARIABLE}=all runs it on a device"
    before = Seen.on_device.setdefault(str(item.path), set())
    if operations <= before:
        return f"other cases run its operations on a device; {VARIABLE}=all runs it, too"
    before |= operations
    return None


@contextmanager
def around(item: pytest.Item) -> Iterator[None]:
    """Around a case of a test that has several, fixtures included."""
    import on_devices

    if device_of(item) == "cpu":
        start = time.perf_counter()
        with on_devices.operations_captured() as found:
            yield
        Seen.operations[key_of(item)] = found, time.perf_counter() - start
        return
    if item.config.getoption("device_cases") == "some" and (why := reason_to_skip(item)):
        pytest.skip(why)
    import cuda_device  # noqa: F401  (it makes the device, or skips the case)

    compiled = item.config.getoption("device_cases") == "all"
    with ExitStack() as stack:
        stack.enter_context(on_devices.tensors_on(PLACE, compiled))
        for module in (sys.modules[item.module.__name__], *support_modules()):  # type: ignore[attr-defined]
            stack.enter_context(on_devices.tensors_moved(vars(module), PLACE))
        yield


def support_modules() -> list[ModuleType]:
    """Those beside this one, which hold tables for several files of tests."""
    folder = os.path.dirname(__file__)
    return [m for m in sys.modules.values() if os.path.dirname(_file_of(m)) == folder]


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""


STACKS = pytest.StashKey[ExitStack]()


def enter(item: pytest.Item) -> None:
    if device_of(item) is not None:
        stack = item.stash[STACKS] = ExitStack()
        stack.enter_context(around(item))


def leave(item: pytest.Item) -> None:
    stack = item.stash.get(STACKS, None)
    if stack is not None:
        stack.close()
