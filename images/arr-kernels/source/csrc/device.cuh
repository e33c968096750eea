// What the kernels have in common: packs of 16 bytes, sums over the threads of a row, and sums over rows in two passes.
#pragma once

#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <initializer_list>

#include "ops.h"

#define ARR_DISPATCH(TYPE, NAME, ...)                         \
  AT_DISPATCH_SWITCH(TYPE, NAME,                              \
                     AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) \
                     AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__)  \
                     AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

namespace arr {

constexpr int WARP = 32;

// So many elements are loaded and stored at once.
template <typename T>
constexpr int WIDE = 16 / sizeof(T);

template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T values[V];
};

// Keep a pack as it was loaded: what was made of it before is made again, instead of taking twice the registers meanwhile.
template <typename T, int V>
__device__ inline void stay_packed(Pack<T, V>& pack) {
  if constexpr (sizeof(T) < sizeof(float) && sizeof(T) * V % sizeof(uint32_t) == 0) {
    auto* words = reinterpret_cast<uint32_t*>(&pack);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T) * V / sizeof(uint32_t)); ++i) asm volatile("" : "+r"(words[i]));
  }
}

// Whether every row of all these can be taken in packs of 16 bytes.
struct Operand {
  const void* data;
  int64_t stride;
};

template <typename T>
bool packs_fit(int n, std::initializer_list<Operand> operands) {
  return n % WIDE<T> == 0 && std::all_of(operands.begin(), operands.end(), [](const Operand& operand) {
           return reinterpret_cast<uintptr_t>(operand.data) % 16 == 0 && operand.stride % WIDE<T> == 0;
         });
}

inline int round_up(int64_t value, int to) { return static_cast<int>((value + to - 1) / to * to); }

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// The sum over the threads of a row, for each of them. A block holds several rows only where a warp is enough for one: so the
// barriers are met by all threads of a block or by none.
__device__ inline float row_sum(float value) {
  value = warp_sum(value);
  if (blockDim.x == WARP) return value;
  __shared__ float parts[WARP];
  const int lane = threadIdx.x % WARP;
  if (lane == 0) parts[threadIdx.x / WARP] = value;
  __syncthreads();
  value = warp_sum(lane < static_cast<int>(blockDim.x / WARP) ? parts[lane] : 0.0f);
  __syncthreads();  // the next row writes to them
  return value;
}

// Second pass of a sum over rows: `parts` has so many rows of partial sums. The order is fixed, so the result is, too.
constexpr int SUM_ROWS = 16;

template <typename T>
__global__ void sum_parts(const float* __restrict__ parts, T* __restrict__ out, int count, int n) {
  __shared__ float sums[SUM_ROWS][WARP];
  const int column = blockIdx.x * WARP + threadIdx.x;
  float sum = 0.0f;
  if (column < n) {
    for (int row = threadIdx.y; row < count; row += SUM_ROWS) sum += parts[static_cast<int64_t>(row) * n + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= n) return;
  for (int row = 1; row < SUM_ROWS; ++row) sum += sums[row][threadIdx.x];
  out[column] = static_cast<T>(sum);
}

template <typename T>
void launch_sum_parts(const at::Tensor& parts, const at::Tensor& out, cudaStream_t stream) {
  const int n = static_cast<int>(parts.size(1));
  sum_parts<T><<<(n + WARP - 1) / WARP, dim3(WARP, SUM_ROWS), 0, stream>>>(
      parts.const_data_ptr<float>(), out.mutable_data_ptr<T>(), static_cast<int>(parts.size(0)), n);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// So many blocks of this kernel run at once.
template <typename Kernel>
int64_t resident_blocks(Kernel kernel, dim3 block, size_t shared) {
  int device = 0, processors = 0, each = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(block.x * block.y), shared));
  return static_cast<int64_t>(processors) * std::max(each, 1);
}

}  // namespace arr
