output "registry" {
  description = "registry: in pipeline.yaml."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "channels" {
  description = "channels: in pipeline.yaml."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.channels.repository_id}"
}

output "cache" {
  description = "cache: in pipeline.yaml."
  value       = trimsuffix("gs://${google_storage_bucket.cache.name}/${var.prefix}", "/")
}

output "builder" {
  description = "cloudbuild.builder in pipeline.yaml; docker push the image of ci/builder/Dockerfile here."
  value       = local.builder
}

output "workload_identity_provider" {
  description = "For ci/github-actions.yaml."
  value       = google_iam_workload_identity_pool_provider.github.name
}
