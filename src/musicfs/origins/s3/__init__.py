"""Music in a bucket: of Amazon's S3 or of anything else that speaks its protocol."""

from musicfs.origins.s3.driver import KIND as KIND
