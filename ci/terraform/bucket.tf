locals {
  root = var.prefix == "" ? "" : "${var.prefix}/"
  # All names that an untrusted build writes begin with one of these.
  untrusted = ["${local.root}untrusted/", "${local.root}ccache/untrusted."]
}

resource "google_storage_bucket" "cache" {
  name                        = var.bucket
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # Nothing is changed in place but small heads, and `doit ccache:rollback` knows their history: soft delete would only bill
  # a week of every pack that is replaced.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # Only here: what trusted builds wrote is removed by `doit ccache:prune`, which knows what is in use.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.untrusted_days
      matches_prefix = local.untrusted
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}
