variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where the bucket, the registry and the builds are: one place, or every byte is paid for twice."
  type        = string
  default     = "us-central1"
}

variable "bucket" {
  description = "The name of the cache's bucket: cache: gs://BUCKET/PREFIX in pipeline.yaml."
  type        = string
}

variable "prefix" {
  description = "The cache's prefix in the bucket, without slashes at its ends; empty for the bucket's root."
  type        = string
  default     = ""
  validation {
    condition     = trim(var.prefix, "/") == var.prefix
    error_message = "Write it without slashes at its ends."
  }
}

variable "github_owner" {
  description = "The owner of the GitHub repository, which is connected to Cloud Build in the console once."
  type        = string
}

variable "github_repository" {
  description = "The name of the GitHub repository."
  type        = string
}

variable "branch" {
  description = "The branch that trusted builds are made of, and pull requests go to; a regular expression."
  type        = string
  default     = "^main$"
}

variable "variants" {
  description = "Which variants have triggers of their own: ci/cloudbuild-VARIANT.yaml; \"\" is the pipeline as it is."
  type        = set(string)
  default     = [""]
}

variable "secrets" {
  description = "Ids of the Secret Manager secrets that trusted builds may read: the ids under secrets: in pipeline.yaml."
  type        = set(string)
  default     = []
}

variable "channel_tags" {
  description = "Beginnings of the friendly tags: what they point to is kept, however old it is."
  type        = list(string)
  default     = ["latest", "2."]
}

variable "keep_days" {
  description = "For how long images are kept that no friendly tag points to, and that are not among the newest of their tier."
  type        = number
  default     = 90
}

variable "keep_newest" {
  description = "How many of the newest images of each tier are always kept."
  type        = number
  default     = 10
}

variable "immutable_keys" {
  description = <<-EOT
    Whether nobody can overwrite, move or delete a tag in the repository of the keys. Friendly tags must then be kept in the
    other one (channels: in pipeline.yaml). Artifact Registry deletes no tagged image of an immutable repository, so the cleanup
    policies wait: set this to false for a day now and then, and they drop what is old.
  EOT
  type        = bool
  default     = true
}

variable "untrusted_days" {
  description = "For how many days wheels and records of pull requests are kept; their compiler cache is left to ccache:prune."
  type        = number
  default     = 14
}

variable "untrusted_branches" {
  description = <<-EOT
    Branches, beside the trusted one, whose untrusted builds may write a part of the cache of their own, each with an account of its own.
    All other builds of pull requests only read, so each push to them compiles its changes anew.
  EOT
  type        = set(string)
  default     = []
  validation {
    # Such names stand in the cache's names as they are, and with a dot one could begin like another.
    condition     = alltrue([for branch in var.untrusted_branches : can(regex("^[a-z0-9-]{1,30}$", branch))])
    error_message = "Branches of at most 30 lower-case letters, digits and hyphens."
  }
}
