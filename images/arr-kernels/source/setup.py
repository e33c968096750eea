"""Compile the operators for what torch has been compiled for: with CUDA, TORCH_CUDA_ARCH_LIST says for which devices."""

import torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

SOURCES = ["csrc/ops.cpp"]
OPTIONS = {
    "name": "arr_kernels._C",
    "extra_compile_args": {"cxx": ["-O3", "-DPy_LIMITED_API=0x03090000"], "nvcc": ["-O3"]},
    # Operators are found by their names in torch.ops; nothing of Python's is called.
    "py_limited_api": True,
}

extension = (
    CUDAExtension(sources=[*SOURCES, "csrc/bias_gelu.cu", "csrc/rms_norm.cu"], **OPTIONS)
    if torch.version.cuda
    else CppExtension(sources=SOURCES, **OPTIONS)
)
setup(
    name="arr-kernels",
    version="0.1.0",
    packages=["arr_kernels"],
    ext_modules=[extension],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
    # Compiled against this torch: no other has its C++ interface.
    install_requires=[f"torch=={torch.__version__}"],
    zip_safe=False,
)
