# Stands in for the MinIO image where no image registry can be reached: moto's server, a test double of S3
# that keeps objects in memory and writes them to /data when it is stopped in order. Only
# deploy/docker/check.sh builds it.
FROM debian:bookworm-slim
# Under another name: installing Python brings the usual file of its own.
COPY ca-certificates.crt /opt/this-machine.crt
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --break-system-packages --cert /opt/this-machine.crt 'moto[s3,server]==5.2.5'
COPY --chmod=755 s3.py /usr/local/bin/minio
COPY --chmod=755 mc.py /usr/local/bin/mc
ENTRYPOINT ["minio"]
