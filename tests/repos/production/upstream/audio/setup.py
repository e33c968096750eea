"""As torchaudio's setup.py, as far as build-wheels uses it: compiled against the torch that it finds."""

import os
from pathlib import Path

import torch
from setuptools import Extension, setup

HERE = Path(__file__).parent
told = {name: os.environ.get(name) for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST")}
(HERE / "torchaudio").mkdir(exist_ok=True)
(HERE / "torchaudio" / "__init__.py").write_text(f"compiled_with = {torch.__version__!r}\ntold = {told!r}\n")
setup(
    name="torchaudio",
    version=os.environ["BUILD_VERSION"],
    packages=["torchaudio"],
    ext_modules=[Extension("torchaudio._C", ["stub.cpp"])],
    install_requires=[f"torch=={os.environ['PYTORCH_VERSION']}"],
)
