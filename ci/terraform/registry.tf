# Images by key: REGION-docker.pkg.dev/PROJECT/images, the `registry:` of pipeline.yaml. With immutable tags the policies
# wait, and "keep-channels" is for pipelines without `channels:`, whose friendly tags lie here.
resource "google_artifact_registry_repository" "images" {
  repository_id = "images"
  location      = var.region
  format        = "DOCKER"
  description   = "imagetiers: images by key, written once"

  docker_config {
    immutable_tags = var.immutable_keys
  }

  # KEEP wins over DELETE. A child has its parent's layers itself, so it outlives its parent.
  cleanup_policies {
    id     = "drop-old"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "${var.keep_days * 86400}s"
    }
  }
  cleanup_policies {
    id     = "keep-channels"
    action = "KEEP"
    condition {
      tag_state    = "TAGGED"
      tag_prefixes = var.channel_tags
    }
  }
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = var.keep_newest
    }
  }
  depends_on = [google_project_service.needed]
}

# Friendly tags, which move: the `channels:` of pipeline.yaml, apart, so that tags by key can be immutable. Each has its image
# here too, so it stays whatever becomes of the image by key.
resource "google_artifact_registry_repository" "channels" {
  repository_id = "channels"
  location      = var.region
  format        = "DOCKER"
  description   = "imagetiers: friendly tags"

  docker_config {
    immutable_tags = false
  }

  cleanup_policies {
    id     = "drop-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "${var.keep_days * 86400}s"
    }
  }
  depends_on = [google_project_service.needed]
}

# The image that the steps run in. Builds only read it: who could write it could be any build.
resource "google_artifact_registry_repository" "tools" {
  repository_id = "tools"
  location      = var.region
  format        = "DOCKER"
  description   = "imagetiers: the builder image"

  docker_config {
    immutable_tags = false
  }
  depends_on = [google_project_service.needed]
}
