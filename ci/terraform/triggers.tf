locals {
  infix   = { for variant in var.variants : variant => variant == "" ? "" : "-${variant}" }
  builder = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.tools.repository_id}/imagetiers-builder"
}

# The trigger's service account is the one that counts: a build that a trigger starts cannot choose another one, so that a
# pull request that edits its own build file still runs as the account of pull requests.
resource "google_cloudbuild_trigger" "trusted" {
  for_each        = local.infix
  name            = "imagetiers${each.value}"
  location        = var.region
  filename        = "ci/cloudbuild${each.value}.yaml"
  service_account = google_service_account.build.id

  github {
    owner = var.github_owner
    name  = var.github_repository
    push {
      branch = var.branch
    }
  }
  substitutions = {
    _BUILDER = local.builder
  }
  include_build_logs = "INCLUDE_BUILD_LOGS_WITH_STATUS"
}

resource "google_cloudbuild_trigger" "pr" {
  for_each        = local.infix
  name            = "imagetiers${each.value}-pr"
  location        = var.region
  filename        = "ci/cloudbuild${each.value}-pr.yaml"
  service_account = google_service_account.pr.id

  github {
    owner = var.github_owner
    name  = var.github_repository
    pull_request {
      branch          = var.branch
      comment_control = "COMMENTS_ENABLED_FOR_EXTERNAL_CONTRIBUTORS_ONLY"
    }
  }
  substitutions = {
    _BUILDER = local.builder
  }
  include_build_logs = "INCLUDE_BUILD_LOGS_WITH_STATUS"
}

# A trigger for pull requests cannot tell their branches apart, one for pushes can.
resource "google_cloudbuild_trigger" "branch" {
  for_each = {
    for pair in setproduct(keys(local.written_by), keys(local.infix)) : join(" ", pair) => pair
  }
  name            = "imagetiers${local.infix[each.value[1]]}-${substr(sha256(each.value[0]), 0, 8)}"
  location        = var.region
  filename        = "ci/cloudbuild${local.infix[each.value[1]]}-pr.yaml"
  service_account = google_service_account.branch[each.value[0]].id

  github {
    owner = var.github_owner
    name  = var.github_repository
    push {
      branch = "^${each.value[0]}$"
    }
  }
  substitutions = {
    _BUILDER     = local.builder
    _HEAD_BRANCH = each.value[0]
  }
  include_build_logs = "INCLUDE_BUILD_LOGS_WITH_STATUS"
}
