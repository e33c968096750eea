# Images for models: a runtime by Python and accelerator, the framework in it, and what serves and trains.
variable "REGISTRY" {
  default = "registry.example/ml"
}
variable "RELEASE" {
  default = "2.6.0"
}

group "default" {
  targets = ["serve", "train"]
}

target "base" {
  name    = "base-py${replace(python, ".", "")}-${accelerator}"
  context = "base"
  matrix = {
    python      = ["3.12", "3.13"]
    accelerator = ["cpu", "cu124"]
  }
  args = { PYTHON = python, ACCELERATOR = accelerator }
}

target "framework" {
  name     = "framework-py${replace(python, ".", "")}-${accelerator}"
  context  = "framework"
  contexts = { base = "target:base-py${replace(python, ".", "")}-${accelerator}" }
  matrix = {
    python      = ["3.12", "3.13"]
    accelerator = ["cpu", "cu124"]
  }
  args = { RELEASE = RELEASE }
  tags = ["${REGISTRY}/framework:${RELEASE}-py${python}-${accelerator}"]
}

target "serve" {
  name     = "serve-${accelerator}"
  context  = "serve"
  contexts = { framework = "target:framework-py313-${accelerator}" }
  matrix   = { accelerator = ["cpu", "cu124"] }
  tags     = ["${REGISTRY}/serve:${RELEASE}-${accelerator}"]
}

target "train" {
  context = "train"
  contexts = {
    framework = "target:framework-py313-cu124"
    serving   = "target:serve-cu124"
  }
  tags = ["${REGISTRY}/train:${RELEASE}", "${REGISTRY}/train:latest"]
}
