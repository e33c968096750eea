# Trusted builds: write the cache, push images, read the secrets that are named.
resource "google_service_account" "build" {
  account_id   = "imagetiers-build"
  display_name = "imagetiers: trusted builds"
}

# Builds of pull requests: whoever can open one can run code as this account.
resource "google_service_account" "pr" {
  account_id   = "imagetiers-pr"
  display_name = "imagetiers: builds of pull requests"
}

# One for each branch that may keep what its untrusted builds make: what one of them writes, no other can change.
resource "google_service_account" "branch" {
  for_each     = local.written_by
  account_id   = "imagetiers-pr-${substr(sha256(each.key), 0, 8)}"
  display_name = "imagetiers: untrusted builds of ${each.key}"
}

resource "google_project_iam_member" "logs" {
  for_each = merge(
    {
      build = google_service_account.build.member
      pr    = google_service_account.pr.member
    },
    { for branch, account in google_service_account.branch : "pr-${branch}" => account.member },
  )
  project = var.project
  role    = "roles/logging.logWriter"
  member  = each.value
}

resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.cache.name
  role   = "roles/storage.objectUser"
  member = google_service_account.build.member
}

resource "google_storage_bucket_iam_member" "pr_reads" {
  bucket = google_storage_bucket.cache.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.pr.member
}

resource "google_storage_bucket_iam_member" "branch_reads" {
  for_each = google_service_account.branch
  bucket   = google_storage_bucket.cache.name
  role     = "roles/storage.objectViewer"
  member   = each.value.member
}

resource "google_storage_bucket_iam_member" "branch_writes_its_own" {
  for_each = google_service_account.branch
  bucket   = google_storage_bucket.cache.name
  role     = "roles/storage.objectUser"
  member   = each.value.member
  condition {
    title      = "names of ${each.key} only"
    expression = local.may_write[each.key]
  }
}

resource "google_artifact_registry_repository_iam_member" "build_writes" {
  for_each = {
    images   = google_artifact_registry_repository.images.name
    channels = google_artifact_registry_repository.channels.name
  }
  location   = var.region
  repository = each.value
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_artifact_registry_repository_iam_member" "build_reads_tools" {
  location   = var.region
  repository = google_artifact_registry_repository.tools.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.build.member
}

resource "google_artifact_registry_repository_iam_member" "pr_reads" {
  for_each = {
    images   = google_artifact_registry_repository.images.name
    channels = google_artifact_registry_repository.channels.name
    tools    = google_artifact_registry_repository.tools.name
  }
  location   = var.region
  repository = each.value
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.pr.member
}

resource "google_artifact_registry_repository_iam_member" "branch_reads" {
  for_each = {
    for pair in setproduct(keys(local.written_by), ["images", "channels", "tools"]) : join(" ", pair) => pair
  }
  location = var.region
  repository = {
    images   = google_artifact_registry_repository.images.name
    channels = google_artifact_registry_repository.channels.name
    tools    = google_artifact_registry_repository.tools.name
  }[each.value[1]]
  role   = "roles/artifactregistry.reader"
  member = google_service_account.branch[each.value[0]].member
}

resource "google_secret_manager_secret_iam_member" "build" {
  for_each  = var.secrets
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.build.member
}
