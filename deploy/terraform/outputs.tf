output "lake" {
  description = "What lake_ingest is told with --lake."
  value       = trimsuffix("s3://${aws_s3_bucket.lake.bucket}/${local.prefix}", "/")
}

output "write_policy_arn" {
  description = "Attach it to the role lake_ingest runs under."
  value       = aws_iam_policy.write.arn
}

output "read_policy_arn" {
  description = "Attach it to those who ask."
  value       = aws_iam_policy.read.arn
}
