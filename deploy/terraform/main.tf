# A lake on AWS: the bucket, the Glue catalog Athena and EMR ask, and two policies that allow no more than
# writing and reading it takes. The tables come from tables.auto.tfvars.json, which is generated.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_s3_bucket" "lake" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "lake" {
  bucket                  = aws_s3_bucket.lake.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn == "" ? null : var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "lake" {
  bucket = aws_s3_bucket.lake.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket     = aws_s3_bucket.lake.id
  depends_on = [aws_s3_bucket_versioning.lake]

  # Uploads in parts that a run which died left behind.
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # What was replaced or deleted can be had back for this long.
  rule {
    id     = "replaced-objects"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.keep_replaced_days
    }
  }

  # Raw is never rewritten and seldom read again: the models read what is new.
  rule {
    id     = "cold-raw"
    status = "Enabled"

    filter {
      prefix = "${local.prefix}raw/"
    }

    transition {
      days          = var.cold_after_days
      storage_class = "STANDARD_IA"
    }
  }
}

locals {
  prefix    = var.prefix == "" ? "" : "${trim(var.prefix, "/")}/"
  databases = toset([for table in var.tables : table.database])
}

resource "aws_glue_catalog_database" "layer" {
  for_each     = local.databases
  name         = each.value
  location_uri = "s3://${aws_s3_bucket.lake.bucket}/${local.prefix}"
}

resource "aws_glue_catalog_table" "table" {
  for_each      = var.tables
  database_name = aws_glue_catalog_database.layer[each.value.database].name
  name          = each.value.name
  description   = each.value.description
  table_type    = "EXTERNAL_TABLE"

  # Athena finds the dates by itself: no crawler, no MSCK REPAIR TABLE.
  parameters = merge(
    {
      "classification"     = "parquet"
      "EXTERNAL"           = "TRUE"
      "projection.enabled" = "true"
    },
    [for key in each.value.partition_keys : key.type == "date" ? {
      "projection.${key.name}.type"   = "date"
      "projection.${key.name}.format" = "yyyy-MM-dd"
      "projection.${key.name}.range"  = "${var.first_date},NOW+1DAYS"
      } : {
      "projection.${key.name}.type"   = "enum"
      "projection.${key.name}.values" = join(",", var.events)
    }]...
  )

  storage_descriptor {
    location      = "s3://${aws_s3_bucket.lake.bucket}/${local.prefix}${each.value.folder}/"
    input_format  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }

    dynamic "columns" {
      for_each = each.value.columns

      content {
        name = columns.value.name
        type = columns.value.type
      }
    }
  }

  dynamic "partition_keys" {
    for_each = each.value.partition_keys

    content {
      name = partition_keys.value.name
      type = partition_keys.value.type
    }
  }
}

# What both do: find the bucket and list what is in it.
data "aws_iam_policy_document" "list" {
  statement {
    actions   = ["s3:GetBucketLocation"]
    resources = [aws_s3_bucket.lake.arn]
  }

  statement {
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake.arn]

    # Looking whether the bucket is there names no prefix.
    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["${local.prefix}*"]
    }
  }
}

# For lake_ingest.
data "aws_iam_policy_document" "write" {
  source_policy_documents = [data.aws_iam_policy_document.list.json]

  # To sweep the uploads of runs that died.
  statement {
    actions   = ["s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.lake.arn]
  }

  # Deleted are what models replaced and what runs that died left; versioning keeps both for a while.
  statement {
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = ["${aws_s3_bucket.lake.arn}/${local.prefix}*"]
  }
}

# For those who ask: Athena, EMR, a notebook.
data "aws_iam_policy_document" "read" {
  source_policy_documents = [data.aws_iam_policy_document.list.json]

  statement {
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.lake.arn}/${local.prefix}*"]
  }

  statement {
    actions = [
      "glue:GetDatabase",
      "glue:GetDatabases",
      "glue:GetPartition",
      "glue:GetPartitions",
      "glue:GetTable",
      "glue:GetTables",
    ]
    resources = concat(
      ["arn:${data.aws_partition.current.partition}:glue:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:catalog"],
      [for database in aws_glue_catalog_database.layer : database.arn],
      [for table in aws_glue_catalog_table.table : table.arn],
    )
  }
}

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

resource "aws_iam_policy" "write" {
  name   = "${var.bucket}-write"
  policy = data.aws_iam_policy_document.write.json
}

resource "aws_iam_policy" "read" {
  name   = "${var.bucket}-read"
  policy = data.aws_iam_policy_document.read.json
}
