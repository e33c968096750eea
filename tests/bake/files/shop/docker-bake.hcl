# A shop: a base, two services that are built from it, and a migration job.
variable "REGISTRY" {
  default = "ghcr.io/example/shop"
}
variable "TAG" {
  default = "1.4.2"
}

group "default" {
  targets = ["services"]
}
group "services" {
  targets = ["api", "worker"]
}

target "_common" {
  args = {
    PYTHON = "3"
    BUILD  = "release"
  }
  labels = {
    "org.opencontainers.image.source" = "https://github.com/example/shop"
  }
}

target "base" {
  inherits   = ["_common"]
  context    = "docker/base"
  dockerfile = "base.Dockerfile"
  tags       = ["${REGISTRY}/base:${TAG}"]
}

target "api" {
  inherits = ["_common"]
  dockerfile = "docker/api.Dockerfile"
  contexts = {
    base = "target:base"
    tools = "docker-image://debian:trixie-slim"
  }
  args = {
    BUILD = "fast"
  }
  tags   = ["${REGISTRY}/api:${TAG}", "${REGISTRY}/api:latest"]
  secret = ["id=pip-token,env=PIP_TOKEN"]
  cache-from = ["type=registry,ref=${REGISTRY}/cache"]
  cache-to   = ["type=registry,ref=${REGISTRY}/cache,mode=max"]
}

target "worker" {
  inherits   = ["api"]
  dockerfile = "docker/worker.Dockerfile"
  target     = "runtime"
  tags       = ["${REGISTRY}/worker:${TAG}"]
  secret     = ["id=deploy-key,src=docker/not-a-key"]
  cache-to   = ["type=inline"]
  args       = { PYTHON = null }
}
