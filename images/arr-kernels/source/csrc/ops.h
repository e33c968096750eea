// What the operators of both devices have in common: their checks, and what they take a tensor for.
#pragma once

#include <ATen/ATen.h>

#include <climits>
#include <string_view>
#include <tuple>

namespace arr {

// Rows of one length, at equal distances: any tensor whose last dimension is dense and whose others collapse. What is laid out
// otherwise is copied.
struct Rows {
  at::Tensor tensor;
  int64_t count;
  int64_t stride;
  int n;
};

inline bool collapses(const at::Tensor& tensor) {
  if (tensor.stride(-1) != 1 && tensor.size(-1) != 1) return false;
  int64_t expected = -1;  // unknown until a dimension of more than one row is met
  for (int64_t dim = tensor.dim() - 2; dim >= 0; --dim) {
    if (tensor.size(dim) == 1) continue;
    if (expected >= 0 && tensor.stride(dim) != expected) return false;
    expected = tensor.stride(dim) * tensor.size(dim);
  }
  return true;
}

inline Rows rows_of(const at::Tensor& given) {
  const at::Tensor tensor = collapses(given) ? given : given.contiguous();
  int64_t stride = tensor.size(-1);
  for (int64_t dim = tensor.dim() - 2; dim >= 0; --dim) {
    if (tensor.size(dim) == 1) continue;
    stride = tensor.stride(dim);
    break;
  }
  const int64_t n = tensor.size(-1);
  return {tensor, tensor.numel() / n, stride, static_cast<int>(n)};
}

inline void check_rows(const char* name, const at::Tensor& x, const at::Tensor& vector, const char* vector_name) {
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) > 0, name, ": x must have a last dimension that is not empty, but has the shape ", x.sizes());
  TORCH_CHECK(x.size(-1) <= INT_MAX, name, ": rows of ", x.size(-1), " elements are too long");
  TORCH_CHECK(vector.dim() == 1 && vector.size(0) == x.size(-1), name, ": ", vector_name, " must have the shape [", x.size(-1),
              "] of x's last dimension, but has ", vector.sizes());
  TORCH_CHECK(vector.scalar_type() == x.scalar_type(), name, ": ", vector_name, " is ", vector.scalar_type(), ", but x is ",
              x.scalar_type());
  TORCH_CHECK(vector.device() == x.device(), name, ": ", vector_name, " is on ", vector.device(), ", but x on ", x.device());
}

inline void check_grad(const char* name, const at::Tensor& grad, const at::Tensor& x) {
  TORCH_CHECK(grad.sizes() == x.sizes(), name, ": the gradient has the shape ", grad.sizes(), ", but x ", x.sizes());
  TORCH_CHECK(grad.scalar_type() == x.scalar_type(), name, ": the gradient is ", grad.scalar_type(), ", but x is ", x.scalar_type());
  TORCH_CHECK(grad.device() == x.device(), name, ": the gradient is on ", grad.device(), ", but x on ", x.device());
}

inline void check_rstd(const char* name, const at::Tensor& rstd, const at::Tensor& x) {
  const bool fits = rstd.sizes() == x.sizes().slice(0, x.dim() - 1) && rstd.device() == x.device();
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(fits && rstd.scalar_type() == type, name, ": rstd is not what rms_norm has returned for x");
}

inline bool is_tanh(const char* name, std::string_view approximate) {
  TORCH_CHECK(approximate == "none" || approximate == "tanh", name, ": approximate must be 'none' or 'tanh', but is '",
              approximate, "'");
  return approximate == "tanh";
}

}  // namespace arr
