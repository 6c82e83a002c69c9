variable "bucket" {
  description = "The lake's bucket; names are unique in the world."
  type        = string
}

variable "prefix" {
  description = "The lake's prefix in the bucket: lake_ingest runs with --lake s3://BUCKET/PREFIX. Empty for the bucket's root."
  type        = string
  default     = ""
}

variable "kms_key_arn" {
  description = "A key of KMS to encrypt with; empty for S3's own."
  type        = string
  default     = ""
}

variable "keep_replaced_days" {
  description = "Days replaced and deleted objects can be had back."
  type        = number
  default     = 30
}

variable "cold_after_days" {
  description = "Days after which files of raw move to infrequent access; S3 takes no less than 30."
  type        = number
  default     = 90

  validation {
    condition     = var.cold_after_days >= 30
    error_message = "S3 moves nothing to infrequent access before 30 days."
  }
}

variable "first_date" {
  description = "The first date Athena looks for."
  type        = string
  default     = "2019-01-01"
}

variable "events" {
  description = "The kinds of fleet event, which are folders."
  type        = list(string)
  default     = ["register", "update", "deregister", "create", "delete"]
}

variable "tables" {
  description = "The tables; generated into tables.auto.tfvars.json by `lake_ingest ddl glue`."
  type = map(object({
    database       = string
    name           = string
    description    = string
    folder         = string
    columns        = list(object({ name = string, type = string }))
    partition_keys = list(object({ name = string, type = string }))
  }))
}
