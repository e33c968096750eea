"""Fused operators: RMSNorm, and bias with GELU.

    rms_norm(x, weight, eps)            as torch.nn.functional.rms_norm over the last dimension
    bias_gelu(x, bias, approximate)     as torch.nn.functional.gelu(x + bias, approximate)

float32, float16 and bfloat16 on CUDA; on the CPU also float64, which is the reference. Any shape and strides; weight and bias are vectors
of x's dtype. Sums are made in float32, and results are rounded once. The operators are torch.ops.arr_kernels.*, with schemas,
autograd (of first order) and fake kernels, so that torch.compile and torch.export trace them.
"""

from pathlib import Path

import torch

__all__ = ["bias_gelu", "rms_norm"]

torch.ops.load_library(next(Path(__file__).parent.glob("_C*.so")))


def rms_norm(x, weight, eps=1e-6):
    """Return x / sqrt(mean(x²) + eps) * weight, each row of the last dimension by itself."""
    return torch.ops.arr_kernels.rms_norm(x, weight, eps)[0]


def bias_gelu(x, bias, approximate="none"):
    """Return gelu(x + bias); `approximate` is "none" or "tanh"."""
    return torch.ops.arr_kernels.bias_gelu(x, bias, approximate)


# ---- for tracing: shapes and types without data


@torch.library.register_fake("arr_kernels::rms_norm")
def _rms_norm_fake(x, weight, eps=1e-6):
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    return x.new_empty(x.shape), x.new_empty(x.shape[:-1], dtype=wide)


@torch.library.register_fake("arr_kernels::bias_gelu")
def _bias_gelu_fake(x, bias, approximate="none"):
    return x.new_empty(x.shape)


@torch.library.register_fake("arr_kernels::rms_norm_backward")
def _rms_norm_backward_fake(grad, x, weight, rstd):
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


@torch.library.register_fake("arr_kernels::bias_gelu_backward")
def _bias_gelu_backward_fake(grad, x, bias, approximate="none"):
    return x.new_empty(x.shape), bias.new_empty(bias.shape)


# ---- autograd


def _rms_norm_save(ctx, inputs, output):
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _rms_norm_backward(ctx, grad, _):
    dx, dweight = torch.ops.arr_kernels.rms_norm_backward(grad, *ctx.saved_tensors)
    return dx, dweight, None


def _bias_gelu_save(ctx, inputs, output):
    x, bias, ctx.approximate = inputs
    ctx.save_for_backward(x, bias)


def _bias_gelu_backward(ctx, grad):
    dx, dbias = torch.ops.arr_kernels.bias_gelu_backward(grad, *ctx.saved_tensors, ctx.approximate)
    return dx, dbias, None


torch.library.register_autograd("arr_kernels::rms_norm", _rms_norm_backward, setup_context=_rms_norm_save)
torch.library.register_autograd("arr_kernels::bias_gelu", _bias_gelu_backward, setup_context=_bias_gelu_save)
