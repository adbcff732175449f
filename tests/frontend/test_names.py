"""The names of `braze` and of `Tensor` are the ones that are meant: PyTorch's and a few more."""

import pytest

import braze
import braze.api
from braze import functions
from braze.functions import indexing, methods, movement
from braze.sparse import methods as sparse_methods

# Names of the package that PyTorch has not, or no longer, at its top level.
OWN = set(
    "ComplexDoubleTensor ComplexFloatTensor KernelDifference UInt16Tensor UInt32Tensor "
    "UInt64Tensor bisect config explain fork_rng get_printoptions stats sync".split()
)
EARLY = set(
    "btrifact btrifact_with_info btrisolve btriunpack gels gesv ifft irfft potrf potri potrs pstrf "
    "rfft trtrs".split()
)
ARRAY_API = set(
    "astype bitwise_invert broadcast_arrays cumulative_prod cumulative_sum expand_dims isdtype "
    "matrix_transpose permute_dims repeat take_along_axis unique_all unique_counts unique_inverse "
    "unique_values unstack vecdot".split()
)


def test_every_listed_name_is_there():
    assert len(set(braze.api.__all__)) == len(braze.api.__all__)
    assert all(hasattr(braze, name) for name in braze.api.__all__)
    assert set(braze.api.__all__) <= set(dir(braze))


def test_helpers_are_no_names_of_the_package():
    assert callable(indexing.check_index) and callable(movement.sizes_of)
    for name in ("check_index", "sizes_of", "resolve_sizes", "draw", "written", "add_out"):
        assert not hasattr(braze, name)
    with pytest.raises(AttributeError, match="module 'braze' has no attribute 'check_index'"):
        braze.check_index  # noqa: B018


def test_in_place_forms_and_methods_that_pytorch_has_not():
    for name in methods.NOT_METHODS:
        assert not hasattr(braze.Tensor, name)
    assert hasattr(braze.Tensor, "logical_not_") and hasattr(braze.Tensor, "hypot_")


def test_no_method_is_in_two_tables():
    tables = [module.METHODS for module in vars(functions).values() if hasattr(module, "METHODS")]
    tables = [table for table in [*tables, sparse_methods.METHODS] if isinstance(table, dict)]
    assert len(tables) > 10
    found = {}
    for table in tables:
        for name, method in table.items():
            assert found.setdefault(name, method) is method, name


def test_top_level_names_are_pytorchs_or_listed():
    torch = pytest.importorskip("torch")
    found = {name for name in braze.api.__all__ if not hasattr(torch, name)}
    assert not found - (OWN | EARLY | ARRAY_API)


def test_methods_are_pytorchs_or_listed():
    torch = pytest.importorskip("torch")
    early = EARLY - {"btriunpack"} | {"fft"}
    standard = {"__array_namespace__", "__buffer__", "to_device"}
    found = {name for name in dir(braze.Tensor) if not hasattr(torch.Tensor, name)}
    found -= {name for name in found if name.startswith("_") and not name.startswith("__")}
    assert not found - (early | standard | {"__slots__", "__copy__"})
