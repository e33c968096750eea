"""As PyTorch's setup.py, as far as build-wheels uses it: same arguments, same variables, same places."""

import os
import random
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
version = os.environ.get("PYTORCH_BUILD_VERSION", "2.6.0a0+git")
(HERE / "torch" / "version.py").write_text(f"__version__ = {version!r}\n")
if not {"egg_info", "clean", "sdist"} & set(sys.argv):
    if not (HERE / "build" / "build.ninja").exists():
        subprocess.run(["cmake", "-G", "Ninja", "-S", HERE, "-B", HERE / "build"], check=True)
    if "--cmake-only" in sys.argv:
        sys.exit()
    subprocess.run(["cmake", "--build", HERE / "build", "--target", "install"], check=True)
# As large libraries are: it must be packed in several pieces, and come out whole.
kernels = random.Random(1).randbytes(1000) * 5000
(HERE / "torch" / "lib").mkdir(exist_ok=True)
(HERE / "torch" / "lib" / "kernels.bin").write_bytes(kernels)
extra = os.environ.get("PYTORCH_EXTRA_INSTALL_REQUIREMENTS", "")
setup(
    name="torch",
    version=version,
    packages=["torch"],
    package_data={"torch": ["lib/*"]},
    ext_modules=[Extension("torch._C", ["torch/csrc/stub.c"])],
    install_requires=[requirement for requirement in extra.split("|") if requirement],
)
