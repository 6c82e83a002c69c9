# All programs of lastmile in one small image.
#
#   docker build --tag lastmile:local .
#   docker build --tag lastmile:dev --build-arg PROFILE=dev .     not optimised, for quick checks
#
# The layers: manifests -> packages fetched -> dependencies compiled -> the workspace compiled -> programs.
# A change of a source file compiles the workspace only, with nothing but the layer cache. Neither a syntax
# line nor a RUN heredoc is used: both fail on older engines or without a registry.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# What decides the dependencies: the manifests, and an empty file for each target cargo looks for.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN mkdir /manifests && cp -r .cargo Cargo.toml Cargo.lock /manifests/ \
    && for manifest in */Cargo.toml crates/*/Cargo.toml; do \
         from="${manifest%/Cargo.toml}"; to="/manifests/${from}"; \
         mkdir -p "${to}/src" && cp "${manifest}" "${to}/" && : > "${to}/src/lib.rs" || exit 1; \
         for file in src/main.rs build.rs; do \
           if [ -e "${from}/${file}" ]; then echo 'fn main() {}' > "${to}/${file}"; fi; \
         done; \
       done

FROM ${RUST_IMAGE} AS build
ARG PROFILE=release
ARG CARGO_BUILD_JOBS
ENV CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
WORKDIR /src
COPY --from=manifests /manifests .
RUN cargo fetch --locked --target "$(rustc --print host-tuple)"
RUN cargo build --offline --locked --profile "${PROFILE}" \
      -p broker -p subscriber -p api -p lake_ingest -p publisher
COPY . .
# The revision the programs name in their first log line; .git is not part of the build.
ARG LASTMILE_REVISION=unknown
# Copied files keep their dates, which are before those of the empty files compiled above. What build scripts
# of dependencies wrote into target must keep its date, or all of them compile again.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && LASTMILE_REVISION="${LASTMILE_REVISION}" cargo build --offline --locked --profile "${PROFILE}" \
      -p broker -p subscriber -p api -p lake_ingest -p publisher \
    && folder="target/$(if [ "${PROFILE}" = dev ]; then echo debug; else echo "${PROFILE}"; fi)" \
    && mkdir /out \
    && for program in broker subscriber api lake_ingest publisher; do \
         strip --strip-debug -o "/out/${program}" "${folder}/${program}" || exit 1; \
       done

FROM ${DEBIAN_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    # A fresh named volume takes its owner from the folder it is mounted over.
    && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /out/ /usr/local/bin/
ARG LASTMILE_REVISION=unknown
ARG LASTMILE_VERSION=0.1.0
LABEL org.opencontainers.image.title="lastmile" \
      org.opencontainers.image.description="Delivery-fleet positions: broker, subscriber, api, lake_ingest, publisher" \
      org.opencontainers.image.version="${LASTMILE_VERSION}" \
      org.opencontainers.image.revision="${LASTMILE_REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:bookworm-slim"
ENV LASTMILE_DATA=/data
WORKDIR /data
USER 10001:10001
# No ENTRYPOINT: the command names the program, which is process 1 and ends on SIGTERM by itself. No
# HEALTHCHECK: the programs differ in whether they have one; docker-compose.yml gives each its own.
CMD ["broker"]
