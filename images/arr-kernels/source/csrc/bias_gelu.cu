// y = gelu(x + bias), bias a vector along x's last dimension. Everything is in float, rounded once.
//
// A thread has one pack of columns and goes down the rows, several at a time: so bias is read once, and its gradient is a sum
// in registers.
#include <torch/library.h>

#include "device.cuh"

namespace arr {
namespace {

using at::Tensor;

constexpr int THREADS = 256;
constexpr int FORWARD_ROWS = 4;  // in flight
constexpr int BACKWARD_ROWS = 2;  // of x and of grad
constexpr unsigned MAX_GRID_Y = 65535;

// The logistic function and its slope; exp never overflows, and nothing is a difference.
struct Logistic {
  float value, slope;
};

__device__ inline Logistic logistic(float t) {
  const float e = __expf(-fabsf(t));
  const float s = __fdividef(1.0f, 1.0f + e);
  return {t >= 0.0f ? s : e * s, e * s * s};
}

// (1 + tanh(z)) / 2 is logistic(2 z).
__device__ inline float two_z(float u) { return 1.5957691216057308f * u * (1.0f + 0.044715f * u * u); }

__device__ inline float normal_cdf(float u) { return 0.5f * (1.0f + erff(u * 0.7071067811865476f)); }

template <bool TANH>
__device__ inline float gelu(float u) {
  if constexpr (TANH) return u * logistic(two_z(u)).value;
  return u * normal_cdf(u);
}

template <bool TANH>
__device__ inline float gelu_slope(float u) {
  if constexpr (TANH) {
    const Logistic found = logistic(two_z(u));
    return found.value + u * found.slope * 1.5957691216057308f * (1.0f + 3.0f * 0.044715f * u * u);
  }
  return normal_cdf(u) + u * 0.3989422804014327f * __expf(-0.5f * u * u);
}

template <typename T, int V, bool TANH>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(const T* __restrict__ x, int64_t stride, const T* __restrict__ bias, T* __restrict__ y, int64_t rows, int n) {
  using P = Pack<T, V>;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n / V) return;
  const P shift = reinterpret_cast<const P*>(bias)[i];
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; first < rows; first += FORWARD_ROWS * step) {
    P xs[FORWARD_ROWS];
#pragma unroll
    for (int r = 0; r < FORWARD_ROWS; ++r) {
      const int64_t row = first + r * step;
      if (row < rows) xs[r] = reinterpret_cast<const P*>(x + row * stride)[i];
    }
#pragma unroll
    for (int r = 0; r < FORWARD_ROWS; ++r) {
      const int64_t row = first + r * step;
      if (row < rows) {
        P result;
#pragma unroll
        for (int v = 0; v < V; ++v) {
          result.values[v] =
              static_cast<T>(gelu<TANH>(static_cast<float>(xs[r].values[v]) + static_cast<float>(shift.values[v])));
        }
        reinterpret_cast<P*>(y + row * n)[i] = result;
      }
    }
  }
}

// `parts` gets a row for each blockIdx.y: this block's share of dbias.
template <typename T, int V, bool TANH>
__global__ void __launch_bounds__(THREADS)
    backward_kernel(const T* __restrict__ grad, int64_t grad_stride, const T* __restrict__ x, int64_t stride,
                    const T* __restrict__ bias, T* __restrict__ dx, float* __restrict__ parts, int64_t rows, int n) {
  using P = Pack<T, V>;
  __shared__ float shared[THREADS][V + 1];  // one more, so that the threads of a warp meet different banks
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const bool inside = i < n / V;
  float sums[V] = {};
  if (inside) {
    const P shift = reinterpret_cast<const P*>(bias)[i];
    const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
    for (int64_t first = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; first < rows; first += BACKWARD_ROWS * step) {
      P xs[BACKWARD_ROWS], grads[BACKWARD_ROWS];
#pragma unroll
      for (int r = 0; r < BACKWARD_ROWS; ++r) {
        const int64_t row = first + r * step;
        if (row < rows) {
          xs[r] = reinterpret_cast<const P*>(x + row * stride)[i];
          grads[r] = reinterpret_cast<const P*>(grad + row * grad_stride)[i];
        }
      }
#pragma unroll
      for (int r = 0; r < BACKWARD_ROWS; ++r) {
        const int64_t row = first + r * step;
        if (row < rows) {
          P result;
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const float slope = gelu_slope<TANH>(static_cast<float>(xs[r].values[v]) + static_cast<float>(shift.values[v]));
            const float value = static_cast<float>(grads[r].values[v]) * slope;
            sums[v] += value;
            result.values[v] = static_cast<T>(value);
          }
          reinterpret_cast<P*>(dx + row * n)[i] = result;
        }
      }
    }
  }
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int v = 0; v < V; ++v) shared[thread][v] = sums[v];
  __syncthreads();
  if (threadIdx.y != 0 || !inside) return;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    float sum = sums[v];
    for (int other = 1; other < blockDim.y; ++other) sum += shared[other * blockDim.x + threadIdx.x][v];
    parts[static_cast<int64_t>(blockIdx.y) * n + i * V + v] = sum;
  }
}

struct Grid {
  dim3 blocks, block;
};

template <typename Kernel>
Grid grid_of(Kernel kernel, int64_t rows, int packs) {
  const int across = std::min(round_up(packs, WARP), THREADS);
  const dim3 block(across, THREADS / across);
  const unsigned columns = (packs + across - 1) / across;
  const int64_t wanted = (rows + block.y - 1) / block.y;
  const int64_t resident = resident_blocks(kernel, block, 0) / columns;
  return {dim3(columns, static_cast<unsigned>(std::clamp<int64_t>(resident, 1, std::min<int64_t>(wanted, MAX_GRID_Y)))), block};
}

template <typename T>
void forward(const Rows& x, const Tensor& bias, const Tensor& y, bool tanh, cudaStream_t stream) {
  const auto* in = x.tensor.const_data_ptr<T>();
  const auto* shift = bias.const_data_ptr<T>();
  auto* out = y.mutable_data_ptr<T>();
  const auto launch = [&](auto kernel, int packs) {
    const Grid grid = grid_of(kernel, x.count, packs);
    kernel<<<grid.blocks, grid.block, 0, stream>>>(in, x.stride, shift, out, x.count, x.n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  };
  constexpr int V = WIDE<T>;
  if (packs_fit<T>(x.n, {{in, x.stride}, {shift, 0}, {out, x.n}})) {
    return tanh ? launch(forward_kernel<T, V, true>, x.n / V) : launch(forward_kernel<T, V, false>, x.n / V);
  }
  tanh ? launch(forward_kernel<T, 1, true>, x.n) : launch(forward_kernel<T, 1, false>, x.n);
}

template <typename T>
void backward(const Rows& grad, const Rows& x, const Tensor& bias, const Tensor& dx, const Tensor& dbias, bool tanh,
              cudaStream_t stream) {
  const auto* from = grad.tensor.const_data_ptr<T>();
  const auto* in = x.tensor.const_data_ptr<T>();
  const auto* shift = bias.const_data_ptr<T>();
  auto* out = dx.mutable_data_ptr<T>();
  const auto launch = [&](auto kernel, int packs) {
    const Grid grid = grid_of(kernel, x.count, packs);
    const Tensor parts = at::empty({grid.blocks.y, x.n}, x.tensor.options().dtype(at::kFloat));
    kernel<<<grid.blocks, grid.block, 0, stream>>>(from, grad.stride, in, x.stride, shift, out,
                                                    parts.mutable_data_ptr<float>(), x.count, x.n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    launch_sum_parts<T>(parts, dbias, stream);
  };
  constexpr int V = WIDE<T>;
  if (packs_fit<T>(x.n, {{from, grad.stride}, {in, x.stride}, {shift, 0}, {out, x.n}})) {
    return tanh ? launch(backward_kernel<T, V, true>, x.n / V) : launch(backward_kernel<T, V, false>, x.n / V);
  }
  tanh ? launch(backward_kernel<T, 1, true>, x.n) : launch(backward_kernel<T, 1, false>, x.n);
}

Tensor bias_gelu(const Tensor& x, const Tensor& bias, c10::string_view approximate) {
  check_rows("bias_gelu", x, bias, "bias");
  const bool tanh = is_tanh("bias_gelu", approximate);
  const c10::cuda::CUDAGuard guard(x.device());
  const Tensor y = at::empty(x.sizes(), x.options());
  if (x.numel() == 0) return y;
  const Tensor shift = bias.contiguous();
  ARR_DISPATCH(x.scalar_type(), "bias_gelu", [&] {
    forward<scalar_t>(rows_of(x), shift, y, tanh, c10::cuda::getCurrentCUDAStream());
  });
  return y;
}

std::tuple<Tensor, Tensor> bias_gelu_backward(const Tensor& grad, const Tensor& x, const Tensor& bias, c10::string_view approximate) {
  check_rows("bias_gelu_backward", x, bias, "bias");
  check_grad("bias_gelu_backward", grad, x);
  const bool tanh = is_tanh("bias_gelu_backward", approximate);
  const c10::cuda::CUDAGuard guard(x.device());
  const Tensor dx = at::empty(x.sizes(), x.options());
  if (x.numel() == 0) return {dx, at::zeros(bias.sizes(), bias.options())};
  const Tensor dbias = at::empty(bias.sizes(), bias.options());
  const Tensor shift = bias.contiguous();
  ARR_DISPATCH(x.scalar_type(), "bias_gelu_backward", [&] {
    backward<scalar_t>(rows_of(grad), rows_of(x), shift, dx, dbias, tanh, c10::cuda::getCurrentCUDAStream());
  });
  return {dx, dbias};
}

}  // namespace

TORCH_LIBRARY_IMPL(arr_kernels, CUDA, library) {
  library.impl("bias_gelu", &bias_gelu);
  library.impl("bias_gelu_backward", &bias_gelu_backward);
}

}  // namespace arr
