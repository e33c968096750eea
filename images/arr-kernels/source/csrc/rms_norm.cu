// RMSNorm: y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps) of each row. Sums and products are in float, rounded once.
//
// A row that fits is read once and kept in registers: K packs a thread, a warp or a block of warps a row. One that does not fit,
// or that cannot be taken in packs of 16 bytes, is read twice (K = 0); the second time it comes from the cache.
#include <torch/library.h>

#include "device.cuh"

namespace arr {
namespace {

using at::Tensor;

constexpr int MAX_THREADS = 1024;
constexpr int BACKWARD_THREADS = 512;  // leaves each thread 128 registers: two rows in flight and the weight's sums
constexpr int SMALL_BLOCK = 256;

struct Shape {
  dim3 block;
  int kept;  // packs a thread, 0: too many
};

// `most` packs a thread is what the registers are enough for, `usual` what gives a wide row enough threads.
Shape shape_of(int packs, int usual, int most, int max_threads) {
  if (packs <= WARP * usual) return {dim3(WARP, SMALL_BLOCK / WARP), (packs + WARP - 1) / WARP};
  const int threads = std::min(round_up((packs + usual - 1) / usual, WARP), max_threads);
  const int kept = (packs + threads - 1) / threads;
  return {dim3(threads), kept <= most ? kept : 0};
}

template <typename T, int V, int K>
__global__ void __launch_bounds__(MAX_THREADS)
    forward_kernel(const T* __restrict__ x, int64_t stride, const T* __restrict__ weight, T* __restrict__ y,
                   float* __restrict__ rstd, int64_t rows, int n, float eps) {
  using P = Pack<T, V>;
  const int packs = n / V;
  const P* weights = reinterpret_cast<const P*>(weight);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
    const P* in = reinterpret_cast<const P*>(x + row * stride);
    P* out = reinterpret_cast<P*>(y + row * n);
    P kept[K > 0 ? K : 1];
    float sum = 0.0f;
    const auto square = [&](const P& pack) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const float value = static_cast<float>(pack.values[v]);
        sum += value * value;
      }
    };
    if constexpr (K > 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const int i = threadIdx.x + k * blockDim.x;
        if (i < packs) kept[k] = in[i];
      }
#pragma unroll
      for (int k = 0; k < K; ++k) {
        if (threadIdx.x + k * blockDim.x < packs) square(kept[k]);
      }
    } else {
      for (int i = threadIdx.x; i < packs; i += blockDim.x) square(in[i]);
    }
    const float scale = rsqrtf(row_sum(sum) / static_cast<float>(n) + eps);
    if (threadIdx.x == 0) rstd[row] = scale;
    const auto write = [&](int i, const P& pack) {
      const P factors = weights[i];
      P result;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        result.values[v] =
            static_cast<T>(static_cast<float>(pack.values[v]) * scale * static_cast<float>(factors.values[v]));
      }
      out[i] = result;
    };
    if constexpr (K > 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const int i = threadIdx.x + k * blockDim.x;
        if (i < packs) {
          stay_packed(kept[k]);
          write(i, kept[k]);
        }
      }
    } else {
      for (int i = threadIdx.x; i < packs; i += blockDim.x) write(i, in[i]);
    }
  }
}

// dx = rstd * (grad * weight - xhat * mean(grad * weight * xhat)), xhat = x * rstd, for rows that fit. A block takes every so
// many rows, and loads the next one before it is done with this one. `parts` gets its share of dweight = sum(grad * xhat).
template <typename T, int V, int K>
__global__ void __launch_bounds__(BACKWARD_THREADS)
    backward_kernel(const T* __restrict__ grad, int64_t grad_stride, const T* __restrict__ x, int64_t stride,
                    const T* __restrict__ weight, const float* __restrict__ rstd, T* __restrict__ dx,
                    float* __restrict__ parts, int64_t rows, int n) {
  using P = Pack<T, V>;
  extern __shared__ float shared[];
  const int packs = n / V;
  const P* weights = reinterpret_cast<const P*>(weight);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  P xs[K], grads[K], next_xs[K], next_grads[K];
  float sums[K][V] = {};
  const auto load = [&](int64_t row, P* to_x, P* to_grad) {
    const P* in = reinterpret_cast<const P*>(x + row * stride);
    const P* from = reinterpret_cast<const P*>(grad + row * grad_stride);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int i = threadIdx.x + k * blockDim.x;
      if (i < packs) {
        to_x[k] = in[i];
        to_grad[k] = from[i];
      }
    }
  };
  int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row < rows) load(row, xs, grads);
  for (; row < rows; row += step) {
    if (row + step < rows) load(row + step, next_xs, next_grads);
    const float scale = rstd[row];
    float dot = 0.0f;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int i = threadIdx.x + k * blockDim.x;
      if (i < packs) {
        const P factors = weights[i];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const float normed = static_cast<float>(xs[k].values[v]) * scale;
          const float given = static_cast<float>(grads[k].values[v]);
          dot += given * static_cast<float>(factors.values[v]) * normed;
          sums[k][v] += given * normed;
        }
      }
    }
    const float mean = row_sum(dot) / static_cast<float>(n);
    P* out = reinterpret_cast<P*>(dx + row * n);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int i = threadIdx.x + k * blockDim.x;
      if (i < packs) {
        stay_packed(xs[k]);
        stay_packed(grads[k]);
        const P factors = weights[i];
        P result;
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const float normed = static_cast<float>(xs[k].values[v]) * scale;
          const float inner = static_cast<float>(grads[k].values[v]) * static_cast<float>(factors.values[v]);
          result.values[v] = static_cast<T>(scale * (inner - normed * mean));
        }
        out[i] = result;
        xs[k] = next_xs[k];
        grads[k] = next_grads[k];
      }
    }
  }
  float* to = blockDim.y > 1 ? shared + threadIdx.y * n : parts + static_cast<int64_t>(blockIdx.x) * n;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const int i = threadIdx.x + k * blockDim.x;
    if (i < packs) {
#pragma unroll
      for (int v = 0; v < V; ++v) to[i * V + v] = sums[k][v];
    }
  }
  if (blockDim.y == 1) return;
  __syncthreads();
  for (int column = threadIdx.y * blockDim.x + threadIdx.x; column < n; column += blockDim.x * blockDim.y) {
    float sum = 0.0f;
    for (int part = 0; part < blockDim.y; ++part) sum += shared[part * n + column];
    parts[static_cast<int64_t>(blockIdx.x) * n + column] = sum;
  }
}

// The same dx for any row: each is read twice.
template <typename T, int V>
__global__ void __launch_bounds__(MAX_THREADS)
    backward_any_kernel(const T* __restrict__ grad, int64_t grad_stride, const T* __restrict__ x, int64_t stride,
                        const T* __restrict__ weight, const float* __restrict__ rstd, T* __restrict__ dx, int64_t rows,
                        int n) {
  using P = Pack<T, V>;
  const int packs = n / V;
  const P* weights = reinterpret_cast<const P*>(weight);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
    const P* in = reinterpret_cast<const P*>(x + row * stride);
    const P* from = reinterpret_cast<const P*>(grad + row * grad_stride);
    const float scale = rstd[row];
    float dot = 0.0f;
    for (int i = threadIdx.x; i < packs; i += blockDim.x) {
      const P xs = in[i], grads = from[i], factors = weights[i];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        dot += static_cast<float>(grads.values[v]) * static_cast<float>(factors.values[v]) *
               (static_cast<float>(xs.values[v]) * scale);
      }
    }
    const float mean = row_sum(dot) / static_cast<float>(n);
    P* out = reinterpret_cast<P*>(dx + row * n);
    for (int i = threadIdx.x; i < packs; i += blockDim.x) {
      const P xs = in[i], grads = from[i], factors = weights[i];
      P result;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const float normed = static_cast<float>(xs.values[v]) * scale;
        const float inner = static_cast<float>(grads.values[v]) * static_cast<float>(factors.values[v]);
        result.values[v] = static_cast<T>(scale * (inner - normed * mean));
      }
      out[i] = result;
    }
  }
}

// Its dweight, a thread a column: blockIdx.y takes every so many rows.
template <typename T>
__global__ void weight_parts_kernel(const T* __restrict__ grad, int64_t grad_stride, const T* __restrict__ x, int64_t stride,
                                    const float* __restrict__ rstd, float* __restrict__ parts, int64_t rows, int n) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= n) return;
  float sum = 0.0f;
#pragma unroll 4
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    sum += static_cast<float>(grad[row * grad_stride + column]) * (static_cast<float>(x[row * stride + column]) * rstd[row]);
  }
  parts[static_cast<int64_t>(blockIdx.y) * n + column] = sum;
}

unsigned blocks_of(int64_t rows, dim3 block, int64_t most = INT_MAX) {
  return static_cast<unsigned>(std::min((rows + block.y - 1) / block.y, most));
}

template <typename T>
void forward(const Rows& x, const Tensor& weight, const Tensor& y, const Tensor& rstd, float eps, cudaStream_t stream) {
  const auto* in = x.tensor.const_data_ptr<T>();
  const auto* factors = weight.const_data_ptr<T>();
  auto* out = y.mutable_data_ptr<T>();
  const auto launch = [&](auto kernel, dim3 block) {
    kernel<<<blocks_of(x.count, block), block, 0, stream>>>(in, x.stride, factors, out, rstd.mutable_data_ptr<float>(),
                                                             x.count, x.n, eps);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (!packs_fit<T>(x.n, {{in, x.stride}, {factors, 0}, {out, x.n}})) {
    return launch(forward_kernel<T, 1, 0>, shape_of(x.n, 4, 8, MAX_THREADS).block);
  }
  constexpr int V = WIDE<T>;
  const Shape shape = shape_of(x.n / V, 4, 8, MAX_THREADS);
  if (shape.kept == 0) return launch(forward_kernel<T, V, 0>, shape.block);
  if (shape.kept == 1) return launch(forward_kernel<T, V, 1>, shape.block);
  if (shape.kept == 2) return launch(forward_kernel<T, V, 2>, shape.block);
  if (shape.kept <= 4) return launch(forward_kernel<T, V, 4>, shape.block);
  launch(forward_kernel<T, V, 8>, shape.block);
}

template <typename T>
void backward(const Rows& grad, const Rows& x, const Tensor& weight, const Tensor& rstd, const Tensor& dx,
              const Tensor& dweight, cudaStream_t stream) {
  const auto* from = grad.tensor.const_data_ptr<T>();
  const auto* in = x.tensor.const_data_ptr<T>();
  const auto* factors = weight.const_data_ptr<T>();
  const auto* scales = rstd.const_data_ptr<float>();
  auto* out = dx.mutable_data_ptr<T>();
  const auto options = x.tensor.options().dtype(at::kFloat);
  const auto fused = [&](auto kernel, dim3 block) {
    const size_t shared = block.y > 1 ? sizeof(float) * block.y * x.n : 0;
    const unsigned blocks = blocks_of(x.count, block, resident_blocks(kernel, block, shared));
    const Tensor parts = at::empty({blocks, x.n}, options);
    kernel<<<blocks, block, shared, stream>>>(from, grad.stride, in, x.stride, factors, scales, out,
                                               parts.mutable_data_ptr<float>(), x.count, x.n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    launch_sum_parts<T>(parts, dweight, stream);
  };
  const auto apart = [&](auto kernel, dim3 block) {
    kernel<<<blocks_of(x.count, block), block, 0, stream>>>(from, grad.stride, in, x.stride, factors, scales, out, x.count,
                                                             x.n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const unsigned columns = (x.n + SMALL_BLOCK - 1) / SMALL_BLOCK;
    const int64_t resident = resident_blocks(weight_parts_kernel<T>, dim3(SMALL_BLOCK), 0);
    const unsigned rows = static_cast<unsigned>(std::clamp<int64_t>(resident / columns, 1, std::min<int64_t>(x.count, 65535)));
    const Tensor parts = at::empty({rows, x.n}, options);
    weight_parts_kernel<T><<<dim3(columns, rows), SMALL_BLOCK, 0, stream>>>(
        from, grad.stride, in, x.stride, scales, parts.mutable_data_ptr<float>(), x.count, x.n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    launch_sum_parts<T>(parts, dweight, stream);
  };
  if (!packs_fit<T>(x.n, {{from, grad.stride}, {in, x.stride}, {factors, 0}, {out, x.n}})) {
    return apart(backward_any_kernel<T, 1>, shape_of(x.n, 4, 8, MAX_THREADS).block);
  }
  constexpr int V = WIDE<T>;
  const Shape shape = shape_of(x.n / V, 4, 4, BACKWARD_THREADS);
  if (shape.kept == 0) return apart(backward_any_kernel<T, V>, shape_of(x.n / V, 4, 8, MAX_THREADS).block);
  if (shape.kept == 1) return fused(backward_kernel<T, V, 1>, shape.block);
  if (shape.kept == 2) return fused(backward_kernel<T, V, 2>, shape.block);
  fused(backward_kernel<T, V, 4>, shape.block);
}

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_rows("rms_norm", x, weight, "weight");
  const c10::cuda::CUDAGuard guard(x.device());
  const Tensor y = at::empty(x.sizes(), x.options());
  const Tensor rstd = at::empty(x.sizes().slice(0, x.dim() - 1), x.options().dtype(at::kFloat));
  if (x.numel() == 0) return {y, rstd};
  const Rows rows = rows_of(x);
  const Tensor factors = weight.contiguous();
  ARR_DISPATCH(x.scalar_type(), "rms_norm", [&] {
    forward<scalar_t>(rows, factors, y, rstd, static_cast<float>(eps), c10::cuda::getCurrentCUDAStream());
  });
  return {y, rstd};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& rstd) {
  check_rows("rms_norm_backward", x, weight, "weight");
  check_grad("rms_norm_backward", grad, x);
  check_rstd("rms_norm_backward", rstd, x);
  const c10::cuda::CUDAGuard guard(x.device());
  const Tensor dx = at::empty(x.sizes(), x.options());
  if (x.numel() == 0) return {dx, at::zeros(weight.sizes(), weight.options())};
  const Tensor dweight = at::empty(weight.sizes(), weight.options());
  const Tensor factors = weight.contiguous(), scales = rstd.contiguous();
  ARR_DISPATCH(x.scalar_type(), "rms_norm_backward", [&] {
    backward<scalar_t>(rows_of(grad), rows_of(x), factors, scales, dx, dweight, c10::cuda::getCurrentCUDAStream());
  });
  return {dx, dweight};
}

}  // namespace

TORCH_LIBRARY_IMPL(arr_kernels, CUDA, library) {
  library.impl("rms_norm", &rms_norm);
  library.impl("rms_norm_backward", &rms_norm_backward);
}

}  // namespace arr
