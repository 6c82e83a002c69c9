# Stands in for the mongo image where no image registry can be reached: SecantusDB, a server that speaks
# MongoDB's protocol, as a process of its own. It has neither users, key file nor a replica set to initiate;
# those parts of docker-compose.yml are not seen with it. Only deploy/docker/check.sh builds it.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pymongo zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 999 -g 999 /data/db /data/configdb
COPY secantusdb/ /opt/secantusdb/
COPY --chmod=755 mongo-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
COPY --chmod=755 mongosh.py /usr/local/bin/mongosh
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["mongod"]
