# The official images of a small language: each version without its manual (slim) and with it, as a tag for whoever asks
# for less than a version, too.
variable "REPOSITORY" {
  default = "example/lang"
}
variable "LATEST" {
  default = "1.2"
}

group "default" {
  targets = ["slim", "full"]
}

target "_image" {
  platforms = ["linux/amd64"]
  labels = {
    "org.opencontainers.image.source"   = "https://code.example/lang"
    "org.opencontainers.image.licenses" = "MIT"
  }
}

target "slim" {
  inherits   = ["_image"]
  name       = "slim-${replace(version, ".", "-")}"
  matrix     = { version = ["1.1", "1.2"] }
  dockerfile = "Dockerfile.slim"
  args       = { LANG_VERSION = version }
  tags = version == LATEST ? ["${REPOSITORY}:${version}-slim", "${REPOSITORY}:slim"] : ["${REPOSITORY}:${version}-slim"]
}

target "full" {
  inherits   = ["_image"]
  name       = "full-${replace(version, ".", "-")}"
  matrix     = { version = ["1.1", "1.2"] }
  dockerfile = "Dockerfile"
  contexts   = { slim = "target:slim-${replace(version, ".", "-")}" }
  tags       = version == LATEST ? ["${REPOSITORY}:${version}", "${REPOSITORY}:latest"] : ["${REPOSITORY}:${version}"]
}
