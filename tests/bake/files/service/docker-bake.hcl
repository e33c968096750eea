# A service: the image, and beside it what must pass before somebody merges: its tests and a linter.
variable "REGISTRY" {
  default = "registry.example/team"
}
variable "TAG" {
  default = "dev"
}
variable "REVISION" {
  default = "unknown"
}

group "default" {
  targets = ["service"]
}
group "validate" {
  targets = ["lint", "test"]
}

target "_common" {
  dockerfile = "Dockerfile"
  contexts   = { schema = "schema" }
  args       = { MODE = "release" }
}

target "service" {
  inherits = ["_common"]
  target   = "service"
  tags     = ["${REGISTRY}/service:${TAG}"]
  labels   = { "org.opencontainers.image.revision" = REVISION }
}

target "lint" {
  inherits = ["_common"]
  target   = "lint"
  output   = ["type=cacheonly"]
}

target "test" {
  inherits = ["_common"]
  target   = "report"
  args     = { MODE = "test" }
  output   = ["type=local,dest=out"]
}
