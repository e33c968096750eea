variable "VERSION" { default = "" }
function "tag" {
  params = [name]
  result = ["example/${name}:${VERSION != "" ? VERSION : "dev"}"]
}
target "app" {
  args = { MODE = notequal("", VERSION) ? "release" : "debug" }
  tags = tag("app")
}
