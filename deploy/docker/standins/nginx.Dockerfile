# Stands in for the official nginx image where no image registry can be reached: Debian's nginx, which is
# older (1.22). Only deploy/docker/check.sh builds it.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx-light curl \
    && rm -rf /var/lib/apt/lists/*
CMD ["nginx", "-g", "daemon off;"]
