"""As the setup.py of torchvision and torchaudio, as far as build-wheels uses it: compiled against the torch it finds."""

import os
from pathlib import Path

import torch
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
NAME = f"torch{HERE.name}"  # /src/vision, /src/audio
told = {name: os.environ.get(name) for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST")}
(HERE / NAME).mkdir(exist_ok=True)
(HERE / NAME / "__init__.py").write_text(f"compiled_with = {torch.__version__!r}\ntold = {told!r}\n")
setup(
    name=NAME,
    version=os.environ["BUILD_VERSION"],
    packages=[NAME],
    ext_modules=[Extension(f"{NAME}._C", ["stub.cpp"])],
    install_requires=[f"torch=={os.environ['PYTORCH_VERSION']}"],
)
