variable "BASE" { default = "debian:trixie-slim" }

group "default" { targets = ["tool"] }

target "tool" {
  name = "tool-${flavour}-${item.level}"
  matrix = {
    flavour = ["plain", "Debug_Symbols"]
    item = [
      { level = "low", number = 1 },
      { level = "high", number = 2 },
    ]
  }
  context = "tool"
  args = {
    IMAGE   = BASE
    FLAVOUR = flavour
    LEVEL   = "level ${item.number}: ${item.level}"
  }
  platforms = ["linux/amd64"]
  output    = ["type=docker"]
}
