"""Time the operators on a GPU against PyTorch's own and against a copy of as many bytes; prints JSON.

    python3 -m arr_kernels.benchmark [--shape 4096x8192]... [--dtype bfloat16]...

Times are of the GPU alone: calls are captured in a CUDA graph, each on inputs and outputs of its own, so that nothing is left in the
cache from the call before. `bytes` are what an operator must read and write at least; `of_copy` is its rate by that of a copy that reads
and writes as many bytes together.
"""

import argparse
import json
import statistics

import torch
from torch.nn.functional import gelu
from torch.nn.functional import rms_norm as torch_rms_norm

EPS = 1e-6
#: Inputs and outputs of the calls in a graph come to so many bytes: many times the cache.
FOOTPRINT = 3 << 30
REPLAYS = 15


def seconds(calls):
    """The median time of one call: all are captured in a graph, which is replayed.

    A backward pass runs on its forward pass's stream: so everything is on the one that is captured.
    """
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        kept = [call() for call in calls]
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / len(calls))
    del kept, graph
    return statistics.median(times)


def copy_rate(size):
    """Bytes a second of a device copy that reads and writes `size` bytes together."""
    each = max(size // 2, 1)
    pairs = [torch.empty(2, each, dtype=torch.uint8, device="cuda") for _ in range(calls_of(size))]
    return size / seconds([lambda pair=pair: pair[0].copy_(pair[1]) for pair in pairs])


def calls_of(size):
    """How many calls of so many bytes fill the footprint."""
    return max(2, min(50, FOOTPRINT // size))


def captured_gradients(function, inputs, grad):
    """A call that computes the gradients of PyTorch's own function, whose forward pass is done already."""
    leaves = [value.detach().requires_grad_() for value in inputs]
    y = function(*leaves)
    return lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True)


def cases(shape, dtype):
    """Name, bytes that must be moved, inputs, and the calls: ours, and PyTorch's."""
    operators = torch.ops.arr_kernels
    rows, n = shape
    whole = rows * n * dtype.itemsize
    vector = torch.randn(n, device="cuda", dtype=dtype)

    def fresh():
        return torch.randn(shape, device="cuda", dtype=dtype)

    def norm(x, weight):
        return torch_rms_norm(x, (n,), weight, EPS)

    def forward():
        x = fresh()
        return lambda: operators.rms_norm(x, vector, EPS), lambda: norm(x, vector)

    def backward():
        x, grad = fresh(), fresh()
        rstd = operators.rms_norm(x, vector, EPS)[1]
        return lambda: operators.rms_norm_backward(grad, x, vector, rstd), captured_gradients(norm, (x, vector), grad)

    yield "rms_norm", 2 * whole, forward
    yield "rms_norm_backward", 3 * whole, backward
    for approximate in ("none", "tanh"):

        def activation(x, bias, approximate=approximate):
            return gelu(x + bias, approximate=approximate)

        def gelu_forward(approximate=approximate, activation=activation):
            x = fresh()
            return lambda: operators.bias_gelu(x, vector, approximate), lambda: activation(x, vector)

        def gelu_backward(approximate=approximate, activation=activation):
            x, grad = fresh(), fresh()
            ours = lambda: operators.bias_gelu_backward(grad, x, vector, approximate)  # noqa: E731
            return ours, captured_gradients(activation, (x, vector), grad)

        yield f"bias_gelu {approximate}", 2 * whole, gelu_forward
        yield f"bias_gelu_backward {approximate}", 3 * whole, gelu_backward


def measure(shape, dtype):
    """A line for each operator."""
    rates = {}
    for name, size, make in cases(shape, dtype):
        ours, theirs = zip(*(make() for _ in range(calls_of(size))), strict=True)
        with torch.no_grad():
            mine = seconds(list(ours))
        # PyTorch's keeps what lies between in memory: fewer of them are enough.
        others = seconds(list(theirs[: max(2, len(theirs) // 3)]))
        rates[size] = rates.get(size) or copy_rate(size)
        del ours, theirs
        torch.cuda.empty_cache()
        yield {
            "operator": name,
            "shape": list(shape),
            "dtype": str(dtype).removeprefix("torch."),
            "bytes": size,
            "microseconds": round(mine * 1e6, 2),
            "torch_microseconds": round(others * 1e6, 2),
            "speedup": round(others / mine, 2),
            "gb_per_second": round(size / mine / 1e9, 1),
            "copy_gb_per_second": round(rates[size] / 1e9, 1),
            "of_copy": round(size / mine / rates[size], 3),
        }


def shape_of(text):
    """Rows and their length."""
    rows, n = map(int, text.split("x"))
    return rows, n


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=shape_of, action="append", help="ROWSxLENGTH")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], action="append")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU")
    shapes = options.shape or [(4096, 8192), (16384, 4096), (8192, 1024), (65536, 128), (4096, 8191), (512, 65536)]
    dtypes = [getattr(torch, name) for name in options.dtype or ["bfloat16", "float32"]]
    with torch.cuda.stream(torch.cuda.Stream()):
        results = [line for shape in shapes for dtype in dtypes for line in measure(shape, dtype)]
    device = torch.cuda.get_device_properties(0)
    head = {
        "device": device.name,
        "processors": device.multi_processor_count,
        "capability": f"{device.major}.{device.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    print(json.dumps({**head, "results": results}, indent=1))


if __name__ == "__main__":
    main()
