// Fit a line by gradient descent with what PyTorch's core library offers: memory from its CPU allocator, samples kept as
// bfloat16, views as ArrayRef, errors by TORCH_CHECK.

#include <c10/core/CPUAllocator.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/irange.h>

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace {

using Samples = c10::ArrayRef<c10::BFloat16>;

c10::DataPtr to_bfloat16(const float* values, int64_t count) {
  c10::DataPtr memory = c10::GetCPUAllocator()->allocate(count * sizeof(c10::BFloat16));
  auto* samples = static_cast<c10::BFloat16*>(memory.get());
  for (const auto i : c10::irange(count)) {
    samples[i] = c10::BFloat16(values[i]);
  }
  return memory;
}

Samples view(const c10::DataPtr& memory, int64_t count) {
  return Samples(static_cast<const c10::BFloat16*>(memory.get()), count);
}

// state: weight, bias, loss
void descend(Samples x, Samples y, int64_t steps, float rate, float* state) {
  const auto count = static_cast<float>(x.size());
  for (const auto step : c10::irange(steps)) {
    float weight_gradient = 0, bias_gradient = 0, loss = 0;
    for (const auto i : c10::irange(x.size())) {
      const float error = state[0] * float(x[i]) + state[1] - float(y[i]);
      weight_gradient += 2 * error * float(x[i]) / count;
      bias_gradient += 2 * error / count;
      loss += error * error / count;
    }
    TORCH_CHECK(std::isfinite(loss), "the loss is ", loss, " after ", step, " steps: the rate ", rate, " is too high");
    state[0] -= rate * weight_gradient;
    state[1] -= rate * bias_gradient;
    state[2] = loss;
  }
}

} // namespace

extern "C" int fit(
    const float* x,
    const float* y,
    int64_t count,
    int64_t steps,
    float rate,
    float* state,
    char* message,
    size_t message_size) {
  try {
    TORCH_CHECK(count > 0, "there are no points");
    const c10::DataPtr xs = to_bfloat16(x, count);
    const c10::DataPtr ys = to_bfloat16(y, count);
    descend(view(xs, count), view(ys, count), steps, rate, state);
    return 0;
  } catch (const c10::Error& error) {
    std::snprintf(message, message_size, "%s", error.what_without_backtrace());
    return 1;
  }
}
