"""As PyTorch's setup.py, as far as build-wheels uses it: same arguments, same variables, same places."""

import os
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
extra = os.environ.get("PYTORCH_EXTRA_INSTALL_REQUIREMENTS", "")
setup(
    name="torch",
    version=version,
    packages=["torch"],
    package_data={"torch": ["lib/*.so"]},
    ext_modules=[Extension("torch._C", ["torch/csrc/stub.c"])],
    install_requires=[requirement for requirement in extra.split("|") if requirement],
)
