locals {
  root = var.prefix == "" ? "" : "${var.prefix}/"

  # What all names begin with that the untrusted builds of a branch write; no branch's begin with another's.
  written_by = {
    for branch in var.untrusted_branches : branch => [
      "${local.root}untrusted/${branch}/",
      "${local.root}ccache/untrusted.${branch}.",
    ]
  }

  # The same as conditions of IAM.
  may_write = {
    for branch, starts in local.written_by : branch => join(" || ", [
      for start in starts : "resource.name.startsWith(\"projects/_/buckets/${var.bucket}/objects/${start}\")"
    ])
  }
}
