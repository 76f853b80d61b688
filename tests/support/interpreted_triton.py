"""Triton's interpreter, mended, for the tests of kernels on a machine without a GPU.

TRITON_INTERPRET=1 would have to be set before Triton is first imported, which Lightning does through torch; here the
compiled functions are replaced for as long as the tests last.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import triton.experimental.gluon  # noqa: F401  (is imported by the first launch, and refuses what is interpreted)
from triton import language as tl
from triton.language import standard
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction


@contextmanager
def interpreted(programs: ModuleType) -> Iterator[None]:
    """Have the Triton functions of a module interpreted, with the faults mended that 3.6.0 and 3.7.1 have."""
    builder = interpreter.InterpreterBuilder
    with pytest.MonkeyPatch.context() as patch:
        for module in (tl, standard, programs):
            for name, function in list(vars(module).items()):
                if isinstance(function, JITFunction):
                    patch.setattr(module, name, interpreter.InterpretedFunction(function.fn))
        patch.setattr(interpreter, "_patch_lang_tensor", _with_index(interpreter._patch_lang_tensor))
        patch.setattr(interpreter.ReduceOps, "apply_impl", _with_xor(interpreter.ReduceOps.apply_impl))
        patch.setattr(builder, "create_dot", _with_bfloat16(builder.create_dot))
        patch.setattr(interpreter, "_convert_float", _with_rounding(interpreter._convert_float))
        # Every call of a function would patch the language anew, which takes longer than what the functions do.
        patch.setattr(interpreter.InterpretedFunction, "__call__", _called)
        language = interpreter._patch_lang(standard.sum.fn)
        try:
            yield
        finally:
            language.restore()


def _called(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.rewrite()(*args, **kwargs)


def _with_index(patch: Any) -> Any:
    """A scalar is an array of one element there, which numpy 2.4 no longer turns into an int."""

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patched


def _with_xor(apply: Any) -> Any:
    """tl.sort reduces by exclusive or, which is there done element by element in Python: minutes for one sort."""

    def patched(self: Any, reduced: Any) -> Any:
        if self.combine_fn != standard._xor_combine:
            return apply(self, reduced)
        data = np.bitwise_xor.reduce(reduced[0].handle.data, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(data, reduced[0].dtype)

    return patched


def _with_bfloat16(dot: Any) -> Any:
    """bfloat16 is held as uint16 there, and was multiplied as if it were whole numbers."""

    def patched(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (interpreter.TensorHandle(widened(t.data), tl.float32) if t.dtype == tl.bfloat16 else t for t in (a, b))
        return dot(self, a, b, *rest)

    return patched


def _with_rounding(convert: Any) -> Any:
    """float32 was cut off to bfloat16 there, and infinity and nan were not kept."""

    def patched(data: Any, from_dtype: Any, to_dtype: Any, rounding: Any) -> Any:
        if (from_dtype, to_dtype) == (tl.float32, tl.bfloat16):
            return narrowed(data)
        if (from_dtype, to_dtype) == (tl.bfloat16, tl.float32):
            return widened(data)
        return convert(data, from_dtype, to_dtype, rounding)

    return patched


def widened(bfloat16: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def narrowed(data: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rounded to the nearest, of two as near to the even one."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FC0, rounded).astype(np.uint16)
