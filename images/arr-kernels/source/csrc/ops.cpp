// The operators' schemas, and what they mean: the CPU's kernels are the reference that the GPU's are compared with.
// Autograd and the kernels for tracing (fake tensors) are in arr_kernels/__init__.py.
#include <torch/library.h>

#include "ops.h"

namespace arr {
namespace {

using at::Tensor;

// Sums are made in this type.
at::ScalarType wide(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_rows("rms_norm", x, weight, "weight");
  const Tensor values = x.contiguous().to(wide(x));
  const Tensor rstd = values.square().mean(-1).add(eps).rsqrt();
  const Tensor y = values * rstd.unsqueeze(-1) * weight.to(wide(x));
  return {y.to(x.scalar_type()), rstd};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& rstd) {
  check_rows("rms_norm_backward", x, weight, "weight");
  check_grad("rms_norm_backward", grad, x);
  check_rstd("rms_norm_backward", rstd, x);
  const Tensor scale = rstd.unsqueeze(-1);
  const Tensor normed = x.contiguous().to(wide(x)) * scale;
  const Tensor wide_grad = grad.contiguous().to(wide(x));
  const Tensor inner = wide_grad * weight.to(wide(x));
  const Tensor dx = (inner - normed * (inner * normed).mean(-1, true)) * scale;
  const Tensor dweight = (wide_grad * normed).reshape({-1, x.size(-1)}).sum(0);
  return {dx.to(x.scalar_type()), dweight.to(x.scalar_type())};
}

Tensor bias_gelu(const Tensor& x, const Tensor& bias, c10::string_view approximate) {
  check_rows("bias_gelu", x, bias, "bias");
  is_tanh("bias_gelu", approximate);
  const Tensor sum = x.contiguous().to(wide(x)) + bias.to(wide(x));
  return at::gelu(sum, approximate).to(x.scalar_type());
}

std::tuple<Tensor, Tensor> bias_gelu_backward(const Tensor& grad, const Tensor& x, const Tensor& bias, c10::string_view approximate) {
  check_rows("bias_gelu_backward", x, bias, "bias");
  check_grad("bias_gelu_backward", grad, x);
  is_tanh("bias_gelu_backward", approximate);
  const Tensor sum = x.contiguous().to(wide(x)) + bias.to(wide(x));
  const Tensor dx = at::gelu_backward(grad.contiguous().to(wide(x)), sum, approximate);
  const Tensor dbias = dx.reshape({-1, x.size(-1)}).sum(0);
  return {dx.to(x.scalar_type()), dbias.to(x.scalar_type())};
}

}  // namespace
}  // namespace arr

TORCH_LIBRARY(arr_kernels, library) {
  library.def("rms_norm(Tensor x, Tensor weight, float eps=1e-6) -> (Tensor y, Tensor rstd)");
  library.def("rms_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd) -> (Tensor dx, Tensor dweight)");
  library.def("bias_gelu(Tensor x, Tensor bias, str approximate='none') -> Tensor");
  library.def("bias_gelu_backward(Tensor grad, Tensor x, Tensor bias, str approximate='none') -> (Tensor dx, Tensor dbias)");
}

TORCH_LIBRARY_IMPL(arr_kernels, CPU, library) {
  library.impl("rms_norm", &arr::rms_norm);
  library.impl("rms_norm_backward", &arr::rms_norm_backward);
  library.impl("bias_gelu", &arr::bias_gelu);
  library.impl("bias_gelu_backward", &arr::bias_gelu_backward);
}
