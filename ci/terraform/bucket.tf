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

  # Only wheels, records and the like of pull requests, to which nothing refers. Packs are not deleted by age, theirs neither: one that
  # is old may hold what the newest state lists. `doit ccache:prune`, which knows what is in use, does all namespaces.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.untrusted_days
      matches_prefix = ["${local.root}untrusted/"]
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}
