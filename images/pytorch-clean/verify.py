"""Check a pytorch-clean image from inside: what was compiled loads, is what was asked for, and nothing else came along.

    python3 verify.py EXPECTATIONS.json

EXPECTATIONS.json holds the tier's `verify:` of pipeline.yaml; only what it and its `params` name is checked.

    torch, torchvision, torchaudio: "2.6.0"   the version, whatever local part (+cu124) the build added
    params.c10: "2.6.0"                       the same for the wheel of the target c10
    archs: "7.5;8.0"                          the GPU architectures in the kernels, exactly these
    forbid: [conda, gcc]                      commands that must not be there

There is no GPU and no network where this runs.
"""

import ctypes
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import sys


class Failed(Exception):
    """What is wrong, in one line."""


def check_version(distribution, expected):
    """Compare the public part: 2.6.0+cu124 is 2.6.0, and 2.6.0a0+git1234567 or 2.6.0.post2 is not."""
    found = importlib.metadata.version(distribution)
    if found.partition("+")[0] != expected:
        raise Failed(f"{distribution} is {found}, not {expected}")
    return found


def check_torch(expected):
    """Import it and do linear algebra: without LAPACK, torch imports and then fails here."""
    found = check_version("torch", expected)
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


def check_torchvision(expected):
    """Call what it has compiled: an operator, and the image libraries."""
    found = check_version("torchvision", expected)
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


def check_torchaudio(expected):
    """Call a function whose loop is compiled code."""
    found = check_version("torchaudio", expected)
    import torch
    import torchaudio

    shape = tuple(torchaudio.functional.overdrive(torch.zeros(1, 100)).shape)
    if shape != (1, 100):
        raise Failed(f"overdrive gives the shape {shape}")
    return f"{found}: imported, overdrive runs"


def check_archs(expected):
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


def check_c10(expected):
    """Load the library and call into it."""
    found = check_version("pytorch-c10", expected)
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


def check_forbid(expected):
    """None of these is on PATH."""
    found = [path for path in map(shutil.which, expected) if path]
    if found:
        raise Failed("must not be in the image: " + ", ".join(found))
    return "not in the image: " + ", ".join(expected)


def check_user():
    """Holds for every image: programs do not run as root."""
    if os.geteuid() == 0:
        raise Failed("the image runs as root")
    return f"uid {os.geteuid()}"


def check_unknown(name):
    """A misspelt expectation must not pass for one that holds."""
    raise Failed(f"{name} is no check of this tier; there are " + ", ".join(CHECKS))


CHECKS = {
    "torch": check_torch,
    "torchvision": check_torchvision,
    "torchaudio": check_torchaudio,
    "c10": check_c10,
    "archs": check_archs,
    "forbid": check_forbid,
}


def run(name, check, *args):
    """One line per check. What goes wrong inside a check is its result: a broken torch raises whatever it likes."""
    try:
        line, passed = f"ok   {name}: {check(*args)}", True
    except Failed as error:
        line, passed = f"FAIL {name}: {error}", False
    except Exception as error:
        line, passed = f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())}", False
    print(line, flush=True)
    return passed


def main():
    """Run what the expectations name."""
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = json.load(file)
    params = expected.pop("params", {})
    passed = [run("user", check_user)]
    for name, value in {**expected, **params}.items():
        if name in CHECKS:
            passed.append(run(name, CHECKS[name], value))
        else:
            passed.append(run(name, check_unknown, name))
    return 0 if all(passed) else 1


sys.exit(main())
