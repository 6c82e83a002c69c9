# Stands in for the official Prometheus image where no image registry can be reached: Debian's Prometheus,
# which is older (2.42). Only deploy/docker/check.sh builds it.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65534 -g 65534 /prometheus
CMD ["prometheus"]
