"""Check a pytorch-clean image from inside, by the tier's `params`: what was compiled loads, and is what was asked for.

    torch, torchvision, torchaudio: "2.6.0"   the version, whatever local part (+cu124) the build added; and it works
    c10: "2.6.0"                              the same for the wheel of the target c10
    archs: "7.5;8.0"                          the GPU architectures in the kernels, exactly these; imagetiers says which

There is no network where this runs, and mostly no GPU. Where there is one, an image that has `archs` also runs a kernel of
each kind on it, and compares what comes out with the same in float64 on the CPU.
"""

import ctypes
import importlib.metadata
import os
import re

from imagetiers_checks import Failed, check, gpu_check, main


def distribution(name, expected):
    """Compare the public part: 2.6.0+cu124 is 2.6.0, and 2.6.0a0+git1234567 or 2.6.0.post2 is not."""
    found = importlib.metadata.version(name)
    if found.partition("+")[0] != expected:
        raise Failed(f"{name} is {found}, not {expected}")
    return found


@check
def torch(expected, _params):
    """Import it and do linear algebra: without LAPACK, torch imports and then fails here."""
    found = distribution("torch", expected)
    import torch

    torch.manual_seed(0)
    a = torch.randn(16, 16, dtype=torch.float64)
    residual = (torch.linalg.inv(a) @ a - torch.eye(16, dtype=torch.float64)).abs().max().item()
    if not residual < 1e-9:
        raise Failed(f"the inverse of a 16x16 matrix is off by {residual}")
    x = torch.ones(3, requires_grad=True)
    (x * x).sum().backward()
    if x.grad.tolist() != [2.0, 2.0, 2.0]:
        raise Failed(f"the gradient of x*x at 1 is {x.grad.tolist()}, not 2")
    return f"{found}: imported, inverse and gradient are right"


@check
def torchvision(expected, _params):
    """Call what it has compiled: an operator, and the image libraries."""
    found = distribution("torchvision", expected)
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        raise Failed(f"nms keeps {kept}, not [0, 2]")
    # A torchvision that was compiled without libpng or libjpeg imports, and raises here.
    image = torch.arange(3 * 16 * 16, dtype=torch.uint8).reshape(3, 16, 16)
    if not torch.equal(torchvision.io.decode_png(torchvision.io.encode_png(image)), image):
        raise Failed("an image is another one after PNG")
    jpeg = torchvision.io.decode_jpeg(torchvision.io.encode_jpeg(image))
    if jpeg.shape != image.shape:
        raise Failed(f"an image has the shape {tuple(jpeg.shape)} after JPEG")
    return f"{found}: imported, nms is right, PNG and JPEG are read and written"


@check
def torchaudio(expected, _params):
    """Call a function whose loop is compiled code."""
    found = distribution("torchaudio", expected)
    import torch
    import torchaudio

    shape = tuple(torchaudio.functional.overdrive(torch.zeros(1, 100)).shape)
    if shape != (1, 100):
        raise Failed(f"overdrive gives the shape {shape}")
    return f"{found}: imported, overdrive runs"


@check
def archs(expected, _params):
    """torch.cuda.get_arch_list() is empty where there is no GPU; the flags are compiled in."""
    import torch

    flags = torch._C._cuda_getArchFlags() if hasattr(torch._C, "_cuda_getArchFlags") else None
    if not flags:
        raise Failed("this torch was compiled without CUDA")
    wanted = set()
    for arch in re.split(r"[;, ]+", expected.strip()):
        number, plus, _ = arch.partition("+PTX")
        wanted.add("sm_" + number.replace(".", ""))
        if plus:
            wanted.add("compute_" + number.replace(".", ""))
    found = set(flags.split())
    if found != wanted:
        raise Failed(f"compiled for {' '.join(sorted(found))}, not for {' '.join(sorted(wanted))}")
    return " ".join(sorted(found))


#: How far a result may be off, by the greatest value that is expected: about a hundred times the rounding of one operation.
GPU_LIMITS = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def runs_on(target, capability):
    """Code for X.Y runs on X.Z with Z >= Y; PTX is compiled at the start for every later device; `a` is that device alone."""
    kind, _, number = target.partition("_")
    if not number.isdigit():
        return number == f"{capability}a"
    if kind == "compute":
        return int(number) <= capability
    return int(number) // 10 == capability // 10 and int(number) <= capability


def close(what, found, exact, dtype):
    """Compare with float64; raises Failed."""
    error = ((found.detach().double().cpu() - exact.detach()).abs().max() / exact.detach().abs().max()).item()
    if not error <= GPU_LIMITS[str(dtype).removeprefix("torch.")]:
        raise Failed(f"{what} in {dtype} is off by {error:.1e} of the greatest value")


@gpu_check
def gpu_device(_params):
    """The driver and the image fit together, and there is code for every GPU of this machine."""
    import torch

    if not torch.cuda.is_available():
        torch.cuda.init()  # raises, with the reason
    compiled = torch._C._cuda_getArchFlags().split()
    names = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = f"{torch.cuda.get_device_name(index)} (compute capability {major}.{minor})"
        if not any(runs_on(target, 10 * major + minor) for target in compiled):
            raise Failed(f"{name} cannot run what is compiled for {' '.join(compiled)}")
        names.append(name)
    return f"{', '.join(names)}: kernels for {' '.join(compiled)}"


@gpu_check
def gpu_kernels(_params):
    """The kernels of PyTorch itself: elementwise, reductions, sorting, scans, indexing, and one that NVRTC compiles now."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    device = {
        "elementwise": torch.exp,
        "gelu": functional.gelu,
        "sum": lambda x: x.sum(1),
        "softmax": lambda x: x.softmax(1),
    }
    device["layer_norm"] = lambda x: functional.layer_norm(x, x.shape[1:])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = torch.randn(129, 1025).to(dtype)
        for name, function in device.items():
            close(name, function(x.cuda()), function(x.double()), dtype)
    x = torch.randperm(300_000).reshape(300, 1000).float()
    places = torch.randint(0, 50, (1000,))
    exact = {
        "sort": lambda x, _: x.sort(1, descending=True).values,
        "topk": lambda x, _: x.topk(17).values,
        "cumsum": lambda x, _: x.double().cumsum(1),
        "unique": lambda x, places: places.to(x.device).unique(),
        "index_add": lambda x, places: torch.zeros(300, 50, device=x.device).double().index_add(1, places, x.double()),
        "masked": lambda x, _: x[x > 1234],
        "gcd": lambda x, _: torch.gcd(x.long(), x.long() // 3 + 1),
    }
    for name, function in exact.items():
        if not torch.equal(function(x.cuda(), places.cuda()).cpu(), function(x, places)):
            raise Failed(f"{name} is another one on the GPU")
    return f"{len(device)} kernels in three precisions, {len(exact)} compared exactly"


@gpu_check
def gpu_patches(_params):
    """What source/patches mends: without it, this ends the process (CVE-2025-3730)."""
    import torch
    from torch.nn import functional

    none = torch.tensor([], device="cuda", dtype=torch.long)
    try:
        functional.ctc_loss(torch.rand(0, 0, 4, device="cuda"), none, none, none, reduction="none")
    except RuntimeError:
        return "ctc_loss refuses what is empty"
    raise Failed("ctc_loss takes a log_probs without elements: the patch of CVE-2025-3730 is missing")


@gpu_check
def gpu_libraries(_params):
    """cuBLAS, cuDNN, cuSOLVER, cuFFT and cuSPARSE are here and find each other."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    # TF32 is as wide as float16.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        a, b = torch.randn(300, 513).to(dtype), torch.randn(513, 257).to(dtype)
        close("a matrix product", a.cuda() @ b.cuda(), a.double() @ b.double(), dtype)
        if dtype == torch.float64:
            continue
        images, weights = torch.randn(4, 16, 33, 33).to(dtype), torch.randn(24, 16, 3, 3).to(dtype)
        exact = functional.conv2d(images.double(), weights.double(), padding=1)
        close("a convolution", functional.conv2d(images.cuda(), weights.cuda(), padding=1), exact, dtype)
    a, b = torch.randn(64, 64, dtype=torch.float64) + 8 * torch.eye(64), torch.randn(64, 8, dtype=torch.float64)
    close("a linear system", torch.linalg.solve(a.cuda(), b.cuda()), torch.linalg.solve(a, b), torch.float64)
    close("singular values", torch.linalg.svdvals(a.cuda()), torch.linalg.svdvals(a), torch.float64)
    close("a Fourier transform", torch.fft.rfft(a.cuda()).abs(), torch.fft.rfft(a).abs(), torch.float64)
    sparse = torch.where(a.abs() > 1, a, 0)
    close("a sparse product", sparse.cuda().to_sparse_csr() @ b.cuda(), sparse @ b, torch.float64)
    return f"cuDNN {torch.backends.cudnn.version()}; products, convolutions, solver, FFT and sparse products are right"


@gpu_check
def gpu_attention(_params):
    """FlashAttention and the memory-efficient one, forward and backward, each asked for by its name."""
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.manual_seed(0)
    half, all_three = (torch.float16, torch.bfloat16), (torch.float32, torch.float16, torch.bfloat16)
    done = 0
    for backend, dtypes in ((SDPBackend.FLASH_ATTENTION, half), (SDPBackend.EFFICIENT_ATTENTION, all_three)):
        for dtype in dtypes:
            for size in (64, 128, 256):
                inputs = [torch.randn(2, 3, 130, size).to(dtype) for _ in range(3)]
                exact = [x.double().requires_grad_() for x in inputs]
                here = [x.cuda().requires_grad_() for x in inputs]
                expected = functional.scaled_dot_product_attention(*exact, is_causal=True)
                with sdpa_kernel(backend):
                    found = functional.scaled_dot_product_attention(*here, is_causal=True)
                expected.sum().backward()
                found.sum().backward()
                close(f"{backend.name} of heads of {size}", found, expected, dtype)
                for name, x, y in zip("qkv", here, exact, strict=True):
                    close(f"the gradient by {name} of {backend.name} of heads of {size}", x.grad, y.grad, dtype)
                done += 1
    return f"{done} forward and backward"


@gpu_check
def gpu_torchvision(params):
    """Its own CUDA operators."""
    if "torchvision" not in params:
        return "not in this image"
    import torch
    import torchvision

    torch.manual_seed(0)
    corners = 100 * torch.rand(500, 2)
    boxes, scores = torch.cat([corners, corners + 5 + 20 * torch.rand(500, 2)], 1), torch.randperm(500).float()
    if (
        torchvision.ops.nms(boxes.cuda(), scores.cuda(), 0.4).tolist()
        != torchvision.ops.nms(boxes, scores, 0.4).tolist()
    ):
        raise Failed("nms keeps other boxes than on the CPU")
    images, rois = torch.randn(1, 3, 64, 64), torch.cat([torch.zeros(500, 1), boxes / 2], 1)
    exact = torchvision.ops.roi_align(images.double(), rois.double(), 7)
    close("roi_align", torchvision.ops.roi_align(images.cuda(), rois.cuda(), 7), exact, torch.float32)
    return "nms and roi_align"


@gpu_check
def gpu_nccl(_params):
    """One rank, which needs no network."""
    import torch
    from torch import distributed

    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    distributed.init_process_group("nccl", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        ones = torch.ones(1000, device="cuda")
        distributed.all_reduce(ones)
        if ones.sum().item() != 1000:
            raise Failed("the sum over one rank is another one")
    finally:
        distributed.destroy_process_group()
    return f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}: a sum over one rank"


@check
def c10(expected, _params):
    """Load the library and call into it."""
    found = distribution("pytorch-c10", expected)
    import pytorch_c10

    if pytorch_c10.__version__ != found:
        raise Failed(f"pytorch_c10.__version__ is {pytorch_c10.__version__}, its metadata says {found}")
    c10 = pytorch_c10.load()
    # void* c10::alloc_cpu(size_t), void c10::free_cpu(void*): memory at c10::gAlignment = 64
    alloc, free = c10._ZN3c109alloc_cpuEm, c10._ZN3c108free_cpuEPv
    alloc.restype, alloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    blocks = [alloc(size) for size in (1, 100, 1 << 20)]
    misplaced = [hex(block) for block in blocks if block % 64]
    if misplaced:
        raise Failed(f"alloc_cpu gave memory that is not aligned to 64 bytes: {misplaced}")
    ctypes.memset(blocks[2], 0x5A, 1 << 20)
    if ctypes.string_at(blocks[2] + (1 << 20) - 1, 1) != b"\x5a":
        raise Failed("the memory of alloc_cpu does not hold what was written to it")
    for block in blocks:
        free(block)
    # bool c10::isValidDeviceType(DeviceType): CPU is 0; there is no 100
    valid = c10._ZN3c1017isValidDeviceTypeENS_10DeviceTypeE
    valid.restype, valid.argtypes = ctypes.c_bool, [ctypes.c_int8]
    if not valid(0) or valid(100):
        raise Failed("isValidDeviceType is wrong about CPU or about a device that does not exist")
    return f"{found}: {pytorch_c10.LIBRARY.name} loaded, allocator and device types answer"


main(gpu_if="archs")
