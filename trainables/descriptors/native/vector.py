"""A vector of WIDTH doubles as a type of numba's, so that what a kernel sums up stays in registers.

A kernel has one grid point in each lane.  LLVM maps the vector to whatever the processor has: one register of AVX2 or
AVX-512, two of NEON.  Arrays of vectors are flat arrays of doubles; an index counts doubles.
"""

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

# Doubles.  With 8 the kernels take 1.2 times as long on AVX2, and 0.6 times on AVX-512.
WIDTH = 8 if get_host_cpu_features().get("avx512f") else 4

_DOUBLE, _INT32 = ir.DoubleType(), ir.IntType(32)
_LLVM = ir.VectorType(_DOUBLE, WIDTH)
_BYTES = 8  # of a double


class VectorType(types.Type):
    """Of the values that the functions below take and return."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{WIDTH}")


@register_model(VectorType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: VectorType) -> None:
        super().__init__(manager, numba_type, _LLVM)


VECTOR = VectorType()


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _LLVM.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """The vector that begins at ``array[index]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        loaded.align = _BYTES
        return loaded

    return VECTOR(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Put a vector where ``array[index]`` begins."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature.args[0], *arguments[:2])).align = _BYTES
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), generate


def _in_all_lanes(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(_LLVM, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INT32, WIDTH), [0] * WIDTH))


@intrinsic
def splat(typing_context: Any, number: Any) -> Any:
    """The same number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _in_all_lanes(builder, arguments[0])

    return VECTOR(types.float64), generate


@intrinsic
def spread(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]`` in all lanes, of a flat index in C order; without numba's care for negative ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _in_all_lanes(builder, builder.load(builder.gep(data, [arguments[1]])))

    return VECTOR(array, types.intp), generate


def _multiply_add(*, negative: bool) -> Any:
    @intrinsic
    def function(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(_LLVM, [_LLVM] * 3)
            fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f64")
            first = builder.fneg(arguments[0]) if negative else arguments[0]
            return builder.call(fused, [first, *arguments[1:]])

        return VECTOR(VECTOR, VECTOR, VECTOR), generate

    return function


def _of_two(instruction: str) -> Any:
    @intrinsic
    def function(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return VECTOR(VECTOR, VECTOR), generate

    return function


fma = _multiply_add(negative=False)  # a b + c
fnma = _multiply_add(negative=True)  # c - a b
add, sub, mul = _of_two("fadd"), _of_two("fsub"), _of_two("fmul")


@intrinsic
def below(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """c where a < b, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(_LLVM, [ir.Constant(_DOUBLE, 0.0)] * WIDTH)
        return builder.select(builder.fcmp_ordered("<", *arguments[:2]), arguments[2], zero)

    return VECTOR(VECTOR, VECTOR, VECTOR), generate
